from tdx import Image

img = Image("bad", base="debian/trixie")
img.encryption(type="luks2", key_source="tpm")
