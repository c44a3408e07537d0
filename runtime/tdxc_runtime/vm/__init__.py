"""Virtual machines: a typed description, QEMU's command line from it, and a runner that cleans up after itself."""

from tdxc_runtime.vm.boot import VirtualMachine as VirtualMachine
from tdxc_runtime.vm.boot import boot as boot
from tdxc_runtime.vm.boot import boot_attached as boot_attached
from tdxc_runtime.vm.console import Console as Console
from tdxc_runtime.vm.console import ConsoleLine as ConsoleLine
from tdxc_runtime.vm.machine import Accelerator as Accelerator
from tdxc_runtime.vm.machine import Credential as Credential
from tdxc_runtime.vm.machine import DirectKernel as DirectKernel
from tdxc_runtime.vm.machine import Disk as Disk
from tdxc_runtime.vm.machine import DiskFormat as DiskFormat
from tdxc_runtime.vm.machine import Forward as Forward
from tdxc_runtime.vm.machine import FromDisks as FromDisks
from tdxc_runtime.vm.machine import Machine as Machine
from tdxc_runtime.vm.machine import Protocol as Protocol
from tdxc_runtime.vm.machine import UkiOnDisk as UkiOnDisk
from tdxc_runtime.vm.tools import VmTools as VmTools
from tdxc_runtime.vm.tools import find_vm_tools as find_vm_tools
