"""Writes a model as MLflow logs it: mlflow.onnx, external data and all.

    mlflow_model.py OUT

Prints, as one JSON line, the graph's path and a request of the Open Inference
Protocol with the answer that ONNX Runtime gives in this process.
"""

import json
import pathlib
import sys

import mlflow.onnx
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    r = np.random.default_rng(1)
    weights = r.normal(size=(64, 1000)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])], "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1000])],
        [numpy_helper.from_array(weights, "weights")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    mlflow.onnx.save_model(model, out)
    path = out / "model.onnx"
    external = [i for i in onnx.load(path, load_external_data=False).graph.initializer if i.external_data]
    if not external:
        raise SystemExit("MLflow kept the weights in the graph: this test would show nothing")
    x = r.normal(size=(3, 64)).astype(np.float32)
    y = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 64], "data": x.ravel().tolist()}]}
    print(json.dumps({"path": str(path), "request": request, "want": y.ravel().tolist()}))


if __name__ == "__main__":
    main()
