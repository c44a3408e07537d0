from tdx import Image, SecretTarget
from tdx.modules import SecretDelivery

img = Image("bad", base="debian/trixie")
delivery = SecretDelivery()
delivery.secret("api_token", targets=[SecretTarget.env("API_TOKEN", scope="app")])
delivery.apply(img)
img.service("app", exec="/usr/bin/app --token ${API_TOKEN}")
