from tdx import Image

img = Image("bad")


def packages(count: int) -> list[str]:
    return ["curl"] * (count // 0)


img.install(*packages(2))
