from tdx import Image

small = Image("small")
large = Image("large")
