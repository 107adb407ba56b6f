"""Packages of scikit-learn pipelines. Go's tests load and serve what is written."""

import hashlib
import pathlib
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from aisle_model import ParityError, Strings, package, temper, temperature

TITLES = ["Red cotton shirt", "Blue shirt", "Leather belt", "Brown belt with buckle", "Wool socks", "Five pairs of socks"]
KINDS = ["Shirts", "Shirts", "Belts", "Belts", "Socks", "Socks"]


def fitted(**vectoriser: Any) -> Any:
    options = {"token_pattern": r"[a-zA-Z0-9]+", "ngram_range": (1, 2)} | vectoriser
    return make_pipeline(TfidfVectorizer(**options), LogisticRegression(C=10)).fit(TITLES, KINDS)


def write(folder: pathlib.Path, model: Any, **options: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"name": "kind", "version": "1", "preprocess": Strings(), "check": [*TITLES, "", "?!"]}
    package(model, folder, **(arguments | options))
    spec: dict[str, Any] = yaml.safe_load((folder / "model.yaml").read_text())
    return spec


@pytest.mark.parametrize("zipmap", [False, True])
def test_package(tmp_path: pathlib.Path, zipmap: bool) -> None:
    spec = write(tmp_path, fitted(), zipmap=zipmap, held_out=(TITLES, KINDS), metrics={"accuracy": 0.5})
    assert (tmp_path / "labels.txt").read_text() == "Belts\nShirts\nSocks\n"
    assert spec["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1, 1]}]
    assert [o.get("kind", "tensor") for o in spec["outputs"]] == ["zipmap" if zipmap else "tensor"]
    assert spec["outputs"][0]["shape"] == [-1, 3]
    assert spec["temperature"] < 1, "answers that are right and unsure are made surer"
    for pinned in (spec["model"], spec["labels"]):
        assert hashlib.sha256((tmp_path / pinned["file"]).read_bytes()).hexdigest() == pinned["sha256"]
    locales = [a.s for n in onnx.load(tmp_path / "model.onnx").graph.node for a in n.attribute if a.name == "locale"]
    assert locales == [b"C"]
    assert "probabilities differ by" in (tmp_path / "CARD.md").read_text()


def test_digest_is_that_of_model_yaml(tmp_path: pathlib.Path) -> None:
    made = package(fitted(), tmp_path, name="kind", version="1", preprocess=Strings(), check=TITLES)
    assert made.digest == "sha256:" + hashlib.sha256((tmp_path / "model.yaml").read_bytes()).hexdigest()


def test_what_onnx_reads_differently_is_refused(tmp_path: pathlib.Path) -> None:
    # scikit-learn's own token_pattern leaves single letters out, skl2onnx' not:
    # "shirt t shirt" is a pair of shirts there.
    model = make_pipeline(TfidfVectorizer(ngram_range=(2, 2)), LogisticRegression(C=10)).fit(
        ["shirt a shirt", "belt a belt"], ["Shirts", "Belts"]
    )
    out = tmp_path / "package"
    with pytest.raises(ParityError, match=r"in \d of 2 answers, .* by 0\.\d+ at most, for '(shirt|belt) a"):
        write(out, model, check=["shirt a shirt", "belt a belt"])
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"labels": ["A", "B"]}, "gives 3 numbers, and there are 2 labels"),
        ({"labels": ["A", "A", "B"]}, "the same one twice"),
        ({"labels": ["A", " B", "C"]}, "space around"),
        ({"activation": "tanh"}, "want softmax, sigmoid or none"),
    ],
)
def test_refusals(tmp_path: pathlib.Path, options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        write(tmp_path, fitted(), **options)


def test_temperature() -> None:
    # Answers that are twice as sure as they are right.
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(5000, 4))
    truth = np.array([rng.choice(4, p=p) for p in temper(np.exp(logits), 1)])
    assert temperature(temper(np.exp(2 * logits), 1), truth) == pytest.approx(2, abs=0.1)
    with pytest.raises(ValueError, match="0 answers"):
        temperature(np.zeros((0, 2)), np.zeros(0, np.intp))
