from tdx import Image

img = Image("bad")


def depth(level: int) -> int:
    return depth(level + 1)


depth(0)
