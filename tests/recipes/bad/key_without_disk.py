from tdx import Image
from tdx.modules import DiskEncryption, KeyGeneration

img = Image("x", base="debian/trixie")
KeyGeneration(strategy="tpm").apply(img)
with img.profile("storage"):
    DiskEncryption(device="/dev/vdb").apply(img)
