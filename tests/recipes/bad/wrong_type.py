from tdx import Image

img = Image("bad")
img.install("curl", 7)
