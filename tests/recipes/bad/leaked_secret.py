from tdx import Image, SecretTarget
from tdx.modules import SecretDelivery

img = Image("bad", base="debian/trixie")
delivery = SecretDelivery(method="http_post")
token = delivery.secret("api_token", targets=[SecretTarget.env("API_TOKEN")])
delivery.apply(img)


def settings(value):
    return f"token = {value}\n"


img.file("/etc/app.conf", content=settings(token))
