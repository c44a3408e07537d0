from tdx import Image

img = Image("bad")
img.instal("curl")
