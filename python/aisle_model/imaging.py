"""A picture to pixels by Pillow: what Aisle's internal/imaging is held to,
within about a level of 255."""

import io
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .preprocess import Image as Config

if TYPE_CHECKING:
    from PIL import Image


def _upright(data: bytes) -> "Image.Image":
    from PIL import Image, ImageOps

    picture: Image.Image = Image.open(io.BytesIO(data))
    picture.load()
    picture = ImageOps.exif_transpose(picture) or picture
    if "A" in picture.getbands() or "transparency" in picture.info:
        over = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", over.size, (255, 255, 255, 255)), over)
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert("RGB")


def levels(data: bytes, config: Config) -> npt.NDArray[np.uint8]:
    """Decodes an encoded picture and resizes it: [height, width, 3], R G B."""
    from PIL import Image

    picture = _upright(data)
    width, height = config.width, config.height
    if config.resize == "crop":
        # As torchvision's Resize and CenterCrop, with their rounding.
        w, h = picture.size
        wide, high = int(width / config.crop_ratio), int(height / config.crop_ratio)
        if w * high >= h * wide:
            wide = high * w // h
        else:
            high = wide * h // w
        left, top = round((wide - width) / 2), round((high - height) / 2)
        picture = picture.resize((wide, high), Image.Resampling.BILINEAR)
        picture = picture.crop((left, top, left + width, top + height))
    else:
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def pixels(data: bytes, config: Config) -> npt.NDArray[np.float32]:
    """Returns the tensor of an encoded picture: [channels, height, width], or
    [height, width, channels] for layout NHWC."""
    x = levels(data, config).astype(np.float32)
    mean, std = np.asarray(config.mean, np.float32), np.asarray(config.std, np.float32)
    if config.channels == "L":
        # ITU-R 601, as Pillow's and JPEG's luma.
        x = x @ np.asarray([[0.299], [0.587], [0.114]], np.float32)
        mean, std = mean[:1], std[:1]
    elif config.channels == "BGR":
        x = x[:, :, ::-1]
    x = (x * np.float32(config.scale) - mean) / std
    return np.ascontiguousarray(x if config.layout == "NHWC" else x.transpose(2, 0, 1))
