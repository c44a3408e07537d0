from tdx import Kernel

kernel = Kernel.tdx()
