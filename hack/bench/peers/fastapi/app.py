"""FastAPI + ONNX Runtime over the same model packages: the peer of `bench -only fastapi`.

Written as one would write it for speed: an asynchronous handler over the raw
body (no Pydantic on the hot path), orjson both ways, one session a worker with
one thread that does not spin, and n-grams remembered by word. What it answers
is what Aisle's classifier answers: the bench compares before it measures.

MODEL names the package's folder.
"""

import base64
import functools
import io
import os
import re
import unicodedata

import numpy as np
import onnxruntime as ort
import orjson
import yaml
from fastapi import FastAPI, Request, Response
from PIL import Image

PACKAGE = os.environ["MODEL"]
with open(os.path.join(PACKAGE, "model.yaml"), encoding="utf-8") as f:
    SPEC = yaml.safe_load(f)
with open(os.path.join(PACKAGE, SPEC["labels"]["file"]), encoding="utf-8") as f:
    LABELS = f.read().splitlines()

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
SESSION = ort.InferenceSession(os.path.join(PACKAGE, SPEC["model"]["file"]), options, providers=["CPUExecutionProvider"])

FNV_OFFSET, FNV_PRIME, MASK = 14695981039346656037, 1099511628211, (1 << 64) - 1


def extend(h: int, data: bytes) -> int:
    """64-bit FNV-1a, going on from h."""
    for c in data:
        h = ((h ^ c) * FNV_PRIME) & MASK
    return h


class Titles:
    """The hashed n-grams of internal/ngrams, for the title alone."""

    def __init__(self, config: dict) -> None:
        self.buckets = config["buckets"]
        self.words, self.chars, self.limit = config["words"], config["chars"], config["maxTokens"]
        self.word_salt = extend(FNV_OFFSET, b"wtitle\0")
        self.char_salt = extend(FNV_OFFSET, b"ctitle\0")
        # A title's words recur: both are computed once for each.
        self.of_word = functools.lru_cache(1 << 16)(self._of_word)
        self.of_gram = functools.lru_cache(1 << 17)(self._of_gram)

    def row(self, h: int) -> int:
        h ^= h >> 32
        h = (h * 0x9E3779B97F4A7C15) & MASK
        return (h >> 32) * self.buckets >> 32

    def _of_word(self, word: str) -> tuple[int, ...]:
        """Rows of the character n-grams of "<word>", in order."""
        marked, (shortest, longest), rows = f"<{word}>", self.chars, []
        for start in range(len(marked)):
            h = self.char_salt
            for n, char in enumerate(marked[start : start + longest], 1):
                h = extend(h, char.encode())
                if n >= shortest:
                    rows.append(self.row(h))
        return tuple(rows)

    def _of_gram(self, gram: tuple[str, ...]) -> int:
        h = self.word_salt
        for word in gram:
            h = extend(h, b"\n" if word == "\n" else word.encode() + b" ")
        return self.row(h)

    def __call__(self, product: dict) -> dict[str, np.ndarray]:
        words = fold(product["title"])
        seen: dict[int, None] = {}
        ended = [*words, "\n"] if words else []
        for i in range(len(words)):
            for n in range(self.words[0], self.words[1] + 1):
                if i + n <= len(ended):
                    seen[self.of_gram(tuple(ended[i : i + n]))] = None
        for word in words:
            seen.update(dict.fromkeys(self.of_word(word)))
        ids = np.fromiter(seen, np.int32, len(seen))[: self.limit] if seen else np.zeros(1, np.int32)
        weight = len(seen) and 1 / np.sqrt(len(ids))
        return {"ids": ids[None], "weights": np.full((1, len(ids)), weight, np.float32)}


SEPARATORS = re.compile(r"[^a-z0-9]+")


def fold(text: str) -> list[str]:
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        text = "".join(c if c.isalnum() else " " for c in text).lower()
        return text.split()
    return SEPARATORS.sub(" ", text.lower()).split()


class Photos:
    """The picture of internal/imaging: squashed by Pillow's antialiased triangle."""

    def __init__(self, config: dict) -> None:
        self.size = (config["width"], config["height"])
        mean, std = np.float32(config["mean"]), np.float32(config["std"])
        self.scale = (1 / 255 / std).astype(np.float32)[:, None, None]
        self.shift = (-mean / std).astype(np.float32)[:, None, None]

    def __call__(self, product: dict) -> dict[str, np.ndarray]:
        data = base64.b64decode(product["images"][0]["data"])
        picture = Image.open(io.BytesIO(data)).convert("RGB").resize(self.size, Image.Resampling.BILINEAR)
        pixels = np.asarray(picture, np.uint8).transpose(2, 0, 1)
        return {"image": (pixels * self.scale + self.shift)[None]}


PREPROCESS = Photos(SPEC["preprocess"]["image"]) if SPEC["preprocess"]["kind"] == "image" else Titles(SPEC["preprocess"]["hashedNgrams"])
NAMES, OUTPUT = [i["name"] for i in SPEC["inputs"]], SPEC["outputs"][0]["name"]
SOFTMAX, TEMPERATURE = SPEC["activation"] == "softmax", SPEC["temperature"]

app = FastAPI()


@app.get("/readyz")
async def ready() -> Response:
    return Response()


@app.post("/v1/classify")
async def classify(request: Request) -> Response:
    product = orjson.loads(await request.body())
    tensors = PREPROCESS(product)
    out = SESSION.run([OUTPUT], tensors)[0][0]
    z = (out if SOFTMAX else np.log(np.maximum(out, 1e-30))) / TEMPERATURE
    p = np.exp(z - z.max())
    p /= p.sum()
    best = np.argsort(-p, kind="stable")[:5]
    answer = {"id": product.get("id"), "predictions": [{"label": LABELS[i], "probability": float(p[i])} for i in best]}
    return Response(orjson.dumps(answer), media_type="application/json")
