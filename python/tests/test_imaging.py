"""Pictures: the files that Go's tests hold internal/imaging to, and Go's tensors."""

import json
import pathlib

import numpy as np
import pytest

from aisle_model import Image, pixels

ROOT = pathlib.Path(__file__).parents[2]
PICTURES = sorted((ROOT / "internal/imaging/testdata").glob("*.bin"))


@pytest.mark.parametrize("golden", PICTURES, ids=lambda p: p.stem)
def test_the_pictures_that_go_is_held_to(golden: pathlib.Path) -> None:
    got = pixels(golden.with_suffix("").read_bytes(), Image(48, 40, scale=1.0))
    want = np.frombuffer(golden.read_bytes(), np.uint8).reshape(3, 40, 48)
    # A level: decoders of JPEG and WebP differ by as much between releases.
    assert np.abs(got - want).max() <= 1


def test_against_go() -> None:
    cases = json.loads((ROOT / "python/testdata/pictures.json").read_text())
    assert len(cases) >= 5
    for case in cases:
        c = case["config"]
        config = Image(
            c["width"], c["height"], tuple(c.get("mean", [0, 0, 0])), tuple(c["std"]),
            c.get("resize", "squash"), c.get("cropRatio", 1.0), c.get("channels", "RGB"), layout=c.get("layout", "NCHW"),
        )  # fmt: skip
        got = pixels((ROOT / case["file"]).read_bytes(), config)
        want = np.asarray(case["tensor"]).reshape(got.shape)
        # In levels of 255. What shrinks a JPEG's planes apart is off by more at
        # the edges of saturated colours, so the bound is on the mean.
        off = np.abs(got - want) * (min(config.std) * 255)
        assert off.mean() <= 0.6 and np.quantile(off, 0.98) <= 6, case["file"]
