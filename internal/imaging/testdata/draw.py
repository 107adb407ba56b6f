"""Draws the pictures of this folder and what Pillow makes of them.

Run by hand where Pillow and numpy are; the results are committed. The picture
is a made-up drawing with flat areas, gradients and edges. For each file,
NAME.bin holds Pillow's picture resized to 48x40 with BILINEAR, as R, G, B
planes of bytes; NAME.crop the middle of one resized to cover that over 0.875.
"""
import io
import numpy as np
from PIL import Image, ImageDraw, ImageOps

W, H = 150, 131
y, x = np.mgrid[0:H, 0:W].astype(np.float32)
a = np.stack([40 + 200 * x / W, 220 - 180 * y / H, 128 + 90 * np.sin(x / 17) * np.cos(y / 13)], -1)
base = Image.fromarray(a.clip(0, 255).astype(np.uint8))
d = ImageDraw.Draw(base)
d.ellipse((20, 15, 80, 90), fill=(230, 30, 40))
d.rectangle((90, 60, 140, 120), fill=(20, 60, 190))
d.line((0, 130, 149, 0), fill=(250, 250, 250), width=5)
alpha = Image.fromarray((255 * x / W).astype(np.uint8))
rgba = base.copy()
rgba.putalpha(alpha)


def golden(name, im):
    im.load()
    if "A" in im.getbands() or "transparency" in im.info:
        im = im.convert("RGBA")
        white = Image.new("RGBA", im.size, (255, 255, 255, 255))
        im = Image.alpha_composite(white, im)
    if im.mode.startswith("I;16"):
        im = Image.fromarray((np.asarray(im) >> 8).astype(np.uint8))
    im = im.convert("RGB")
    write(name + ".bin", im.resize((48, 40), Image.BILINEAR))


def write(name, im):
    open(name, "wb").write(np.asarray(im).transpose(2, 0, 1).tobytes())


def crop(name):
    im = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
    w, h = int(48 / 0.875), int(40 / 0.875)
    if im.width * h >= im.height * w:
        w = h * im.width // im.height
    else:
        h = w * im.height // im.width
    x, y = round((w - 48) / 2), round((h - 40) / 2)
    write(name + ".crop", im.resize((w, h), Image.BILINEAR).crop((x, y, x + 48, y + 40)))


def save(name, im, **kw):
    im.save(name, **kw)
    golden(name, ImageOps.exif_transpose(Image.open(name)))


save("base444.jpg", base, quality=92, subsampling=0)
save("base420.jpg", base, quality=92, subsampling=2)
save("base422.jpg", base, quality=92, subsampling=1)
save("progressive.jpg", base, quality=85, progressive=True)
save("large.jpg", Image.new("RGB", (800, 800), "teal"), progressive=True, subsampling=0)
save("grey.jpg", base.convert("L"), quality=92)
save("cmyk.jpg", base.convert("CMYK"), quality=92)
save("rgb.png", base)
save("rgba.png", rgba)
save("grey.png", base.convert("L"))
save("palette.png", base.quantize(32))
Image.fromarray((np.asarray(base.convert("L")).astype(np.uint16) * 257)).save("grey16.png")
golden("grey16.png", Image.open("grey16.png"))
save("palette.gif", base.quantize(64))
save("lossy.webp", base, quality=90)
save("lossless.webp", base, lossless=True)
save("alpha.webp", rgba, quality=90)
save("rgb.bmp", base)
for o in range(2, 9):
    ex = Image.Exif()
    ex[0x0112] = o
    save(f"turned{o}.jpg", base.resize((75, 60)), quality=90, exif=ex)
for name in "base420.jpg", "rgb.png", *(f"turned{o}.jpg" for o in range(2, 9)):
    crop(name)
