from tdx import Image

img = Image("bad")
with img.profile("dev"):
    img.base = "debian/bookworm"
