"""Writes a model package and holds it to the model that it was made of."""

import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import yaml

from . import calibration
from .graph import Graph, Inputs, from_sklearn, from_torch, original
from .preprocess import Preprocess, Wordpiece


class ParityError(ValueError):
    """The graph does not answer as the model that it was made of."""


@dataclasses.dataclass(frozen=True)
class Package:
    """What was written. difference is the largest between a probability of the
    graph and of the original, over rows answers."""

    path: pathlib.Path
    digest: str
    temperature: float
    difference: float
    rows: int


def package(
    model: Any,
    out: str | pathlib.Path,
    *,
    name: str,
    version: str,
    preprocess: Preprocess,
    check: Inputs,
    labels: Sequence[str] | None = None,
    reads: Sequence[str] = ("title",),
    activation: str | None = None,
    held_out: tuple[Inputs, Sequence[str]] | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    label_map: Mapping[str, str] | None = None,
    batch_sizes: Sequence[int] = (1, 8, 32),
    description: str = "",
    provenance: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    zipmap: bool = False,
    tolerance: float = 1e-4,
) -> Package:
    """Writes the folder out: model.onnx, model.yaml, labels.txt and CARD.md.

    model is a fitted scikit-learn pipeline that takes texts and has
    predict_proba, or a PyTorch module that gives one tensor [batch, labels] of
    logits (activation "softmax", the default, or "sigmoid") or probabilities
    ("none"). check is what both are asked, as the model takes it after
    preprocessing: texts, or arrays by input name; use real ones, a few hundred.
    A ParityError says by how much the probabilities differ where that is more
    than tolerance, and nothing is written.

    labels defaults to the pipeline's classes_. held_out, inputs and their right
    labels that were not trained on, is what the temperature is fitted on;
    without it the temperature is 1. examples are what `aisle model validate`
    asks: {"product": {...}, "label": ..., "atLeast": ...}. metrics are figures
    on a test split, and provenance says recipe, data, dataFiles and split.
    """
    out = pathlib.Path(out)
    of_sklearn = hasattr(model, "predict_proba")
    labels = _labels(model, labels)
    if of_sklearn:
        graph = from_sklearn(model, zipmap=zipmap)
    elif not isinstance(check, Mapping):
        raise TypeError("check: a PyTorch module takes arrays by input name, such as {'input_ids': ids}")
    else:
        graph = from_torch(model, check)
    activation = activation or ("none" if of_sklearn else "softmax")

    want = _probabilities(original(model, check), activation)
    if want.shape[1] != len(labels):
        raise ValueError(f"the model gives {want.shape[1]} numbers, and there are {len(labels)} labels")
    difference = _parity(want, _probabilities(graph.answers(check, labels), activation), check, tolerance)
    temperature = 1.0
    if held_out is not None:
        inputs, right = held_out
        index = {label: i for i, label in enumerate(labels)}
        truth = np.array([index[label] for label in right], np.intp)
        p = _probabilities(graph.answers(inputs, labels), activation)
        temperature = round(calibration.temperature(p, truth), 3)

    out.mkdir(parents=True, exist_ok=True)
    onnx.save(graph.model, str(out / "model.onnx"))
    (out / "labels.txt").write_text("".join(label + "\n" for label in labels), encoding="utf-8")
    spec: dict[str, Any] = {
        "apiVersion": "aisle.dev/v1alpha1",
        "kind": "Model",
        "name": name,
        "version": version,
        "description": description,
        "model": _pinned(out / "model.onnx"),
        "labels": _pinned(out / "labels.txt"),
        "labelMap": dict(label_map or {}),
        "reads": list(reads),
        "preprocess": _preprocess(preprocess, out),
        "inputs": graph.inputs(),
        "outputs": graph.outputs(len(labels)),
        "activation": activation,
        "temperature": temperature,
        "batchSizes": list(batch_sizes),
        "examples": [dict(e) for e in examples],
        "provenance": {"recipe": "", "data": "", "dataFiles": "", "split": ""} | dict(provenance or {}),
        "metrics": dict(metrics or {}),
    }
    if preprocess.spec()["kind"] == "none":
        spec = {k: v for k, v in spec.items() if k not in ("reads", "activation", "temperature")}
    spec = {k: v for k, v in spec.items() if v or v == 0}
    # Versions and figures are often subclasses of str and float, which YAML would refuse.
    text = yaml.safe_dump(json.loads(json.dumps(spec)), sort_keys=False, allow_unicode=True, width=100)
    (out / "model.yaml").write_text(text, encoding="utf-8")
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    written = Package(out, digest, temperature, difference, len(want))
    (out / "CARD.md").write_text(_card(spec, labels, written), encoding="utf-8")
    return written


def _labels(model: Any, labels: Sequence[str] | None) -> list[str]:
    if labels is None:
        if not hasattr(model, "classes_"):
            raise ValueError("labels is missing: name the outputs in their order")
        labels = [str(c) for c in model.classes_]
    bad = [label for label in labels if not label or label != label.strip() or "\n" in label]
    if bad or len(set(labels)) != len(labels):
        raise ValueError(f"labels: want distinct names without space around them, and not {bad or 'the same one twice'}")
    return list(labels)


def _probabilities(answers: npt.NDArray[np.float64], activation: str) -> npt.NDArray[np.float64]:
    if activation == "none":
        return answers
    if activation == "softmax":
        e = np.exp(answers - answers.max(axis=1, keepdims=True))
    elif activation == "sigmoid":
        e = 1 / (1 + np.exp(-answers))
    else:
        raise ValueError(f"activation {activation!r}: want softmax, sigmoid or none")
    p: npt.NDArray[np.float64] = e / e.sum(axis=1, keepdims=True)
    return p


def _parity(
    want: npt.NDArray[np.float64], got: npt.NDArray[np.float64], check: Inputs, tolerance: float
) -> float:
    if want.shape != got.shape:
        raise ParityError(f"the graph answers {got.shape}, the original {want.shape}")
    off = np.abs(got - want).max(axis=1)
    worst, bad = int(off.argmax()), int((off > tolerance).sum())
    if bad or not np.isfinite(off).all():
        which = f"row {worst}" if isinstance(check, Mapping) else repr(check[worst])
        other = int((got.argmax(axis=1) != want.argmax(axis=1)).sum())
        raise ParityError(
            f"the graph differs from the original in {bad} of {len(off)} answers, {other} of them in the label; "
            f"by {off[worst]:.4f} at most, for {which}. For text, the token_pattern must be one that ONNX has: "
            "try r'[a-zA-Z0-9]+'"
        )
    return float(off.max())


def _pinned(path: pathlib.Path) -> dict[str, str]:
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _preprocess(preprocess: Preprocess, out: pathlib.Path) -> dict[str, Any]:
    spec = preprocess.spec()
    if isinstance(preprocess, Wordpiece):
        copy = out / "tokenizer.json"
        if preprocess.tokenizer.resolve() != copy.resolve():
            shutil.copyfile(preprocess.tokenizer, copy)
        spec["wordpiece"]["tokenizer"] = _pinned(copy)
    return spec


def _card(spec: Mapping[str, Any], labels: Sequence[str], written: Package) -> str:
    provenance = spec["provenance"]
    lines = [
        f"# {spec['name']} {spec['version']}",
        "",
        spec.get("description") or "No description was given.",
        "",
        f"- reads: {', '.join(spec.get('reads', ['tensors']))}",
        f"- answers: {len(labels)} labels: {', '.join(labels[:40])}{', …' if len(labels) > 40 else ''}",
        f"- made of: {provenance.get('data') or 'data not named'}, by {provenance.get('recipe') or 'a recipe not named'}",
        f"- checked: {written.rows} answers of the graph against the original's, "
        f"probabilities differ by {written.difference:.1e} at most",
        f"- temperature: {written.temperature:g}" + (" (not fitted)" if written.temperature == 1 else ""),
    ]
    for figure, value in spec.get("metrics", {}).items():
        words = re.sub(r"([A-Z])", lambda m: " " + m[1].lower(), figure)
        lines.append(f"- {words}: {value:g}")
    return "\n".join(lines) + "\n"
