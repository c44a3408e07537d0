from tdx import Image

img = Image("bad")
img.docs = "no"
