"""Disk images for the platforms, byte for byte the same for the same UKI: GPT, FAT32, raw, qcow2, VHD and GCP's tar.

Everything is written by this package rather than by parted, mtools or qemu-img, whose output holds random identifiers,
the time of day and directory order.
"""

from tdxc_runtime.disk.esp import EspDisk as EspDisk
from tdxc_runtime.disk.esp import make_esp_disk as make_esp_disk
from tdxc_runtime.disk.extents import Extent as Extent
from tdxc_runtime.disk.extents import SparseImage as SparseImage
from tdxc_runtime.disk.extents import write_raw as write_raw
from tdxc_runtime.disk.gcp import write_gcp_tar as write_gcp_tar
from tdxc_runtime.disk.qcow2 import write_qcow2 as write_qcow2
from tdxc_runtime.disk.targets import TARGET_FILES as TARGET_FILES
from tdxc_runtime.disk.targets import write_target as write_target
from tdxc_runtime.disk.vhd import write_vhd as write_vhd
