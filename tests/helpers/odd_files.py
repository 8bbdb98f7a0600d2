"""Files of pictures of every kind, and some that are broken."""

from PIL import Image

SIDE = 32


def half_and_half(size=(SIDE, SIDE), left=(255, 0, 0), right=(0, 0, 255)):
    picture = Image.new("RGB", size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return picture
