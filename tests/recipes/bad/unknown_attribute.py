from tdx import Image

img = Image("bad")
img.kernal = None
