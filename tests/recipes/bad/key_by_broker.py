from tdx import Image
from tdx.modules import KeyGeneration

img = Image("bad", base="debian/trixie")
KeyGeneration(strategy="tdx").apply(img)
