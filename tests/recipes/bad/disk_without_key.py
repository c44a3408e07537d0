from tdx import Image
from tdx.modules import DiskEncryption

img = Image("bad", base="debian/trixie")
DiskEncryption(device="/dev/vda3").apply(img)
