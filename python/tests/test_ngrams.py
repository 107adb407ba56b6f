"""Hashing against Go's, in both directions: go.json is written by Go's test
(go test ./python -update), python.json by this one (python tests/test_ngrams.py)."""

import json
import pathlib
import random
import unicodedata

import numpy as np

from aisle_model import HashedNgrams, features, fold

TESTDATA = pathlib.Path(__file__).parent.parent / "testdata"


def config(c: dict[str, object]) -> HashedNgrams:
    return HashedNgrams(c["buckets"], tuple(c["words"]), tuple(c["chars"]), c["maxTokens"], c.get("attributeWeight", 0.0))  # type: ignore[arg-type]


def test_against_go() -> None:
    cases = json.loads((TESTDATA / "go.json").read_text())
    assert len(cases) >= 50
    for case in cases:
        ids, weights = features(config(case["config"]), [(f["Name"], f["Text"]) for f in case["fields"]])
        assert ids.tolist() == case["ids"], case["fields"]
        np.testing.assert_array_equal(weights, np.asarray(case["weights"], np.float32))


def made_up() -> list[dict[str, object]]:
    """Cases of random characters that were assigned long ago."""
    r = random.Random(1)
    known = [c for c in map(chr, range(1, 0x3000)) if unicodedata.ucd_3_2_0.category(c) not in ("Cn", "Cs")]
    known += ["\uac00", "\uff21", "\ufb01", "\u4e00", "\U0001d400"]
    cases: list[dict[str, object]] = []
    for n in range(150):
        lo, lc = r.randint(1, 3), r.randint(1, 4)
        c = HashedNgrams(r.randint(1, 1 << 20), (lo, r.randint(lo, 4)), (lc, r.randint(lc, 6)), r.randint(1, 40), r.choice([0.0, 0.25]))
        text = "".join(r.choice(known if n % 2 else list(map(chr, range(32, 127)))) for _ in range(r.randint(0, 60)))
        fields = [("title", text), ("attributes.colour", r.choice(["", "Navy Blue", "Été"]))]
        ids, weights = features(c, fields)
        cases.append({
            "config": c.spec()["hashedNgrams"],
            "fields": [{"Name": k, "Text": v} for k, v in fields],
            "ids": ids.tolist(),
            "weights": [float(w) for w in weights],
        })  # fmt: skip
    return cases


def test_golden_is_current() -> None:
    assert json.loads((TESTDATA / "python.json").read_text()) == made_up()


def test_fold() -> None:
    assert fold("  CAFÉ ｃａｆｅ, T-Shirt №5\n") == "cafe cafe t shirt no5"
    assert fold("?!") == ""


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(case) for case in made_up())
    (TESTDATA / "python.json").write_text(f"[\n{lines}\n]\n")
