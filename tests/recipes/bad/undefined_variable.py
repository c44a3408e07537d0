from tdx import Image

img = Image("bad")
img.template("/etc/app.conf", content="port = {{ prot }}\n", vars={"port": 1})
