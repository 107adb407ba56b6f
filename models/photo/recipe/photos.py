"""The photos as arrays: read once, kept in the work folder.

What the network sees in evaluation is exactly model.yaml's preprocessing:
decoded to RGB, resized to SIZE x SIZE without keeping the aspect by an
antialiased triangle filter, scaled to [0, 1], minus MEAN, over STD.
"""

import collections
import csv
import dataclasses
import os
import pathlib
import re

import numpy as np
import torch
from PIL import Image

SIZE = 128
MEAN = (0.85, 0.84, 0.83)  # the photos are mostly white
STD = (0.3, 0.3, 0.3)
AUXILIARY = ("gender", "baseColour")  # also learned in training, dropped at export


@dataclasses.dataclass
class Photos:
    labels: list[str]
    ids: np.ndarray
    part: np.ndarray  # "train", "validation" or "test"
    target: torch.Tensor  # [n] index of the label
    auxiliary: torch.Tensor  # [n, len(AUXILIARY)]
    classes: list[int]  # how many values each auxiliary attribute has
    words: torch.Tensor  # [n, words] share of each frequent word in the product's title
    pixels: np.ndarray  # uint8 [n, SIZE, SIZE, 3]


def load(data: pathlib.Path, work: pathlib.Path) -> Photos:
    """Reads what models/split wrote into work and the photos under data."""
    labels = (work / "labels.txt").read_text(encoding="utf-8").splitlines()
    with open(work / "split.csv", encoding="utf-8") as f:
        part = {r["id"]: r["split"] for r in csv.DictReader(f)}
    with open(data / "products.csv", encoding="utf-8") as f:
        rows = [r for r in csv.DictReader(f) if r["has_image"] == "1" and r["id"] in part]
    rows.sort(key=lambda r: int(r["id"]))
    ids = np.array([int(r["id"]) for r in rows])
    index = {label: i for i, label in enumerate(labels)}
    columns, classes = [], []
    for name in AUXILIARY:
        values = sorted({r[name] for r in rows})
        columns.append([values.index(r[name]) for r in rows])
        classes.append(len(values))
    return Photos(
        labels=labels,
        ids=ids,
        part=np.array([part[r["id"]] for r in rows]),
        target=torch.tensor([index[r["articleType"]] for r in rows]),
        auxiliary=torch.tensor(columns).T.contiguous(),
        classes=classes,
        words=frequent_words(rows, [part[r["id"]] == "train" for r in rows]),
        pixels=pixels(data, work, ids),
    )


def frequent_words(rows: list[dict], train: list[bool], least: int = 15) -> torch.Tensor:
    """Titles describe photos ("polo", "striped", a brand): in training, the
    network also learns to tell the words that at least so many of them have."""
    bags = [set(re.findall(r"[a-z]{2,}", r["productDisplayName"].lower())) for r in rows]
    count = collections.Counter(w for bag, t in zip(bags, train) if t for w in bag)
    index = {w: i for i, w in enumerate(sorted(w for w, n in count.items() if n >= least))}
    out = torch.zeros(len(rows), len(index))
    for i, bag in enumerate(bags):
        for w in bag & index.keys():
            out[i, index[w]] = 1
    return out / out.sum(1, keepdim=True).clamp(min=1)


def save(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes an array whole or not at all: the members may both be at it."""
    temp = path.with_suffix(f".{os.getpid()}.npy")
    np.save(temp, array)
    os.replace(temp, path)


def pixels(data: pathlib.Path, work: pathlib.Path, ids: np.ndarray) -> np.ndarray:
    path, marker = work / f"photos-{SIZE}.npy", work / f"photos-{SIZE}-ids.npy"
    if marker.exists() and np.array_equal(np.load(marker), ids):
        return np.load(path, mmap_mode="r")
    out = np.empty((len(ids), SIZE, SIZE, 3), np.uint8)
    for i, id_ in enumerate(ids):
        with Image.open(data / "images" / f"{id_}.jpg") as im:
            out[i] = np.asarray(im.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        if i % 1000 == 999:
            print(f"reading photos at {SIZE} px: {i + 1} of {len(ids)}", flush=True)
    save(path, out)
    save(marker, ids)  # last: it says that the array is whole
    return out


def normalise(x: torch.Tensor) -> torch.Tensor:
    """x: float [n, 3, h, w] in [0, 1]."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def tensor(pixels_: np.ndarray) -> torch.Tensor:
    """uint8 [n, h, w, 3] to float [n, 3, h, w] in [0, 1]."""
    return torch.from_numpy(np.array(pixels_)).permute(0, 3, 1, 2).float() / 255
