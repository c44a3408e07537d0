from tdx import Image, Kernel

img = Image("bad")
img.kernel = Kernel.tdx(cmd_line="quiet")
