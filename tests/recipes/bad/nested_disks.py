from tdx import Image
from tdx.modules import DiskEncryption, KeyGeneration

img = Image("x", base="debian/trixie")
KeyGeneration(strategy="tpm").apply(img)
DiskEncryption(device="/dev/vdb", name="inner", mount_at="/data/sub").apply(img)
DiskEncryption(device="/dev/vdc", name="outer", mount_at="/data").apply(img)
