from tdx import Image
from tdx.modules import SecretDelivery

img = Image("bad", base="debian/trixie")
delivery = SecretDelivery()
delivery.secret("api_token")
delivery.apply(img)
img.service("app", exec="/usr/bin/app", secrets=["api_tokn", "api_token"])
