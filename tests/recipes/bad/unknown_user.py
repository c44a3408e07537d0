from tdx import Image

img = Image("bad")
img.user("application")
img.service("app", exec="/usr/bin/app", user="aplication")
