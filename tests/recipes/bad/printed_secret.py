from tdx import Image
from tdx.modules import SecretDelivery

img = Image("bad")
delivery = SecretDelivery()
token = delivery.secret("api_token")
delivery.apply(img)
img.service("app", exec='/bin/sh -c "app --token $(head -1 $CREDENTIALS_DIRECTORY/api_token)"', secrets=[token])
img.service("log", exec="/bin/cat %d/api_token", secrets=[token])
