"""ONNX graphs of scikit-learn pipelines and PyTorch modules, and what they answer."""

import dataclasses
import inspect
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

# What a graph is fed: texts for one that takes strings, else its inputs' arrays
# by name, the batch first.
Inputs = Sequence[str] | Mapping[str, npt.NDArray[Any]]

_DATATYPES: dict[int, str] = {
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.STRING: "BYTES",
}


@dataclasses.dataclass(frozen=True)
class Graph:
    """A graph, and which of its outputs holds the answers."""

    model: onnx.ModelProto
    output: str
    zipmap: bool = False

    def inputs(self) -> list[dict[str, Any]]:
        """The inputs as `model.yaml` declares them."""
        return [_port(p) for p in self.model.graph.input]

    def outputs(self, labels: int) -> list[dict[str, Any]]:
        """The output with the answers, as `model.yaml` declares it."""
        if self.zipmap:
            return [{"name": self.output, "kind": "zipmap", "datatype": "FP32", "shape": [-1, labels]}]
        port = next(_port(p) for p in self.model.graph.output if p.name == self.output)
        return [port | {"shape": [-1, labels]}]

    def answers(self, inputs: Inputs, labels: Sequence[str]) -> npt.NDArray[np.float64]:
        """Runs the graph by ONNX Runtime: [rows, labels]."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        if isinstance(inputs, Mapping):
            feed = dict(inputs)
        else:
            shape = self.inputs()[0]["shape"]
            feed = {session.get_inputs()[0].name: np.array(inputs, dtype=object).reshape([-1, 1][: len(shape)])}
        found = session.run([self.output], feed)[0]
        if self.zipmap:
            return np.array([[{str(k): v for k, v in row.items()}[label] for label in labels] for row in found])
        out: npt.NDArray[np.float64] = np.asarray(found, np.float64)
        return out


def _port(p: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = p.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
    return {"name": p.name, "datatype": _DATATYPES[tensor.elem_type], "shape": shape}


def from_sklearn(pipeline: Any, *, zipmap: bool) -> Graph:
    """Converts a fitted pipeline that takes texts and has predict_proba.

    Strings are lower-cased by the locale "C", which every machine has: ASCII
    letters alone, so a vectoriser wants an ASCII token_pattern.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import StringTensorType
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.pipeline import Pipeline

    steps = [step for _, step in pipeline.steps] if isinstance(pipeline, Pipeline) else [pipeline]
    if not hasattr(pipeline, "predict_proba"):
        raise TypeError(f"{type(steps[-1]).__name__} gives no probabilities: end the pipeline in a classifier that has predict_proba (CalibratedClassifierCV gives one to any)")
    options: dict[int, dict[str, Any]] = {id(steps[-1]): {"zipmap": zipmap}}
    for step in steps:
        if isinstance(step, CountVectorizer):  # TfidfVectorizer is one
            options[id(step)] = {"locale": "C"}
    # What makes graphs of opset 17 is in every ONNX Runtime in use.
    model = convert_sklearn(
        pipeline, initial_types=[("text", StringTensorType([None, 1]))], options=options, target_opset=17
    )
    return Graph(model, model.graph.output[1].name, zipmap)


def from_torch(module: Any, example: Mapping[str, npt.NDArray[Any]]) -> Graph:
    """Exports a module: its inputs are those of forward, in that order and with
    these names, and their first dimension varies; so does the second of
    integers, which are token ids. It has one output."""
    import torch

    names = list(example)
    order = [n for n in inspect.signature(module.forward).parameters if n in example]
    if order != names:
        raise ValueError(f"the inputs are {names}, but forward takes {order}: name them as forward does, in its order")
    varies: dict[str, dict[int, str]] = {"answers": {0: "batch"}}
    for name, x in example.items():
        varies[name] = {0: "batch"} | ({1: "tokens"} if x.dtype.kind == "i" and x.ndim == 2 else {})
    # A batch of one would be taken for a constant.
    arguments = tuple(torch.from_numpy(np.ascontiguousarray(np.concatenate([x, x])[:2])) for x in example.values())
    was_training = module.training
    module.eval()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.onnx"
            torch.onnx.export(
                module, arguments, str(path), input_names=names, output_names=["answers"],
                dynamic_axes=varies, opset_version=17, dynamo=False,
            )  # fmt: skip
            model = onnx.load(path)
    finally:
        module.train(was_training)
    return Graph(model, "answers")


def original(model: Any, inputs: Inputs) -> npt.NDArray[np.float64]:
    """What the pipeline or module itself answers: [rows, labels]."""
    if not isinstance(inputs, Mapping):
        out: npt.NDArray[np.float64] = np.asarray(model.predict_proba(list(inputs)), np.float64)
        return out
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            out = model(*(torch.from_numpy(np.ascontiguousarray(x)) for x in inputs.values())).double().numpy()
    finally:
        model.train(was_training)
    return out
