"""How a product becomes tensors: the kinds of preprocessing in `model.yaml`."""

import dataclasses
import pathlib
from typing import Any


@dataclasses.dataclass(frozen=True)
class HashedNgrams:
    """Ids and weights of hashed n-grams: `features` computes them.

    words and chars are the shortest and longest n-gram, (0, 0) for none.
    """

    buckets: int
    words: tuple[int, int] = (1, 2)
    chars: tuple[int, int] = (3, 5)
    max_tokens: int = 512
    attribute_weight: float = 0.0

    def spec(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {
            "buckets": self.buckets,
            "words": list(self.words),
            "chars": list(self.chars),
            "maxTokens": self.max_tokens,
        }
        if self.attribute_weight:
            numbers["attributeWeight"] = self.attribute_weight
        return {"kind": "text/hashed-ngrams", "hashedNgrams": numbers}


@dataclasses.dataclass(frozen=True)
class Strings:
    """The text itself, its fields joined by `join`: for graphs that take strings."""

    join: str = " "

    def spec(self) -> dict[str, Any]:
        return {"kind": "text/string", "join": self.join}


@dataclasses.dataclass(frozen=True)
class Wordpiece:
    """Token ids of a WordPiece tokenizer. `tokenizer` is its tokenizer.json,
    which is copied into the package."""

    tokenizer: pathlib.Path
    max_tokens: int
    join: str = " "

    def spec(self) -> dict[str, Any]:
        # The tokenizer's digest is filled in when it is copied.
        return {"kind": "text/wordpiece", "join": self.join, "wordpiece": {"maxTokens": self.max_tokens}}


@dataclasses.dataclass(frozen=True)
class Image:
    """Pixels: decoded, upright, over white, resized, times scale, minus mean,
    over std. `pixels` computes them.

    resize is "squash", which does not keep the aspect, or "crop": resized to
    cover (width, height) / crop_ratio, and the centre taken. channels is "RGB",
    "BGR" or "L" (of mean and std the first number counts), layout "NCHW" or
    "NHWC".
    """

    width: int
    height: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: str = "squash"
    crop_ratio: float = 1.0
    channels: str = "RGB"
    scale: float = 1 / 255
    layout: str = "NCHW"

    def spec(self) -> dict[str, Any]:
        image: dict[str, Any] = {
            "width": self.width,
            "height": self.height,
            "mean": list(self.mean),
            "std": list(self.std),
        }
        ours = {
            "resize": self.resize,
            "cropRatio": self.crop_ratio,
            "channels": self.channels,
            "scale": self.scale,
            "layout": self.layout,
        }
        usual = {"resize": "squash", "cropRatio": 1.0, "channels": "RGB", "scale": 1 / 255, "layout": "NCHW"}
        image.update({k: v for k, v in ours.items() if v != usual[k]})
        return {"kind": "image", "image": image}


@dataclasses.dataclass(frozen=True)
class Nothing:
    """No preprocessing: only the Open Inference Protocol serves the graph."""

    def spec(self) -> dict[str, Any]:
        return {"kind": "none"}


Preprocess = HashedNgrams | Strings | Wordpiece | Image | Nothing
