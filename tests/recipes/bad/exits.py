import sys

from tdx import Image

img = Image("bad")
sys.exit(0)
