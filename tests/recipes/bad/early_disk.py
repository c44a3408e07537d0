from tdx import Image
from tdx.modules import DiskEncryption, KeyGeneration

img = Image("x", base="debian/trixie")
KeyGeneration(strategy="tpm").apply(img)
DiskEncryption(device="/dev/vdb", mount_at="/srv/data").apply(img)
img.service("app", exec="/usr/bin/app --data /srv/data/app", before=["network.target"])
