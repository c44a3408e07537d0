from tdx import Image
from tdx.modules import DiskEncryption, KeyGeneration

img = Image("x", base="debian/trixie")
KeyGeneration(strategy="tpm").apply(img)
DiskEncryption(device="/dev/vdb", mount_at="/srv/data").apply(img)
with img.profile("more"):
    img.file("/srv/data/app.conf", content="listen = 80\n")
