"""Text to hashed n-grams: the same ids and weights as Aisle's internal/ngrams,
to which tests hold it in both directions.

Characters that one side's Unicode tables know and the other's do not may be
read differently; models are not to depend on them.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .preprocess import HashedNgrams


def fold(text: str) -> str:
    """Returns the words of text, lower-cased and without accents (NFKD), one
    space between two."""
    words: list[str] = []
    word: list[str] = []
    for c in unicodedata.normalize("NFKD", text):
        category = unicodedata.category(c)
        if category == "Mn":
            continue
        if category[0] == "L" or category in ("Nd", "Mc"):
            word.append(c.lower())
        elif word:
            words.append("".join(word))
            word = []
    if word:
        words.append("".join(word))
    return " ".join(words)


_OFFSET, _PRIME, _MASK = 14695981039346656037, 1099511628211, (1 << 64) - 1


def _fnv(h: int, data: bytes) -> int:
    for byte in data:
        h = (h ^ byte) * _PRIME & _MASK
    return h


def _salt(kind: bytes, name: str) -> int:
    return _fnv(_OFFSET, kind + name.encode() + b"\0")


def _bucket(h: int, buckets: int) -> int:
    h ^= h >> 32
    h = h * 0x9E3779B97F4A7C15 & _MASK
    return (h >> 32) * buckets >> 32


def _text(config: HashedNgrams, name: str, text: str) -> Iterator[int]:
    words = fold(text).split()
    if not words:
        return
    shortest, longest = config.words
    if longest:
        salt = _salt(b"w", name)
        for i in range(len(words)):
            h = salt
            for k in range(longest):
                if i + k > len(words):
                    break
                h = _fnv(h, b"\n" if i + k == len(words) else words[i + k].encode() + b" ")
                if k + 1 >= shortest:
                    yield h
    shortest, longest = config.chars
    if longest:
        salt = _salt(b"c", name)
        for word in words:
            marked = f"<{word}>"
            # As Go does: the last start is the word's last character.
            for start in range(len(marked) - 1):
                h = salt
                for k, c in enumerate(marked[start : start + longest], 1):
                    h = _fnv(h, c.encode())
                    if k >= shortest:
                        yield h


def features(
    config: HashedNgrams, fields: Sequence[tuple[str, str]]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Returns the ids (distinct, at least one) and weights of the n-grams.

    fields are (name, text) in the order of the package's `reads`; the name of
    an attribute is "attributes.NAME".
    """
    ids: dict[int, None] = {}

    def add(h: int) -> bool:
        if len(ids) < config.max_tokens:
            ids.setdefault(_bucket(h, config.buckets))
        return len(ids) < config.max_tokens

    for name, text in fields:  # attributes first: a long text must not push them out
        if name.startswith("attributes.") and config.attribute_weight > 0 and (value := fold(text)):
            add(_fnv(_salt(b"a", name.removeprefix("attributes.")), value.encode()))
    attributes = len(ids)
    for name, text in fields:
        if not name.startswith("attributes."):
            for h in _text(config, name, text):
                if not add(h):
                    break
    if not ids:
        return np.zeros(1, np.int32), np.zeros(1, np.float32)
    weights = np.full(len(ids), 1 / math.sqrt(max(1, len(ids) - attributes)), np.float32)
    weights[:attributes] = config.attribute_weight
    return np.fromiter(ids, np.int32, len(ids)), weights
