from tdx import Image
from tdx.modules import TimeSynchronisation

img = Image("bad")
TimeSynchronisation(servers="time.example.org").apply(img)
