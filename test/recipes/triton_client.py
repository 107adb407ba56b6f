"""Asks a running classifier by Triton's own HTTP and gRPC clients.

usage: triton_client.py ADDRESS MODEL

Every way of asking is to give the same answer: JSON and binary, compressed and
not, synchronous and not, over HTTP and gRPC. Prints a line for each and fails
at the first that does not hold.
"""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def values(port: dict, seed: int) -> np.ndarray:
    """Some elements for an input: 2 where a dimension varies."""
    shape = [2 if int(d) < 0 else int(d) for d in port["shape"]]
    random = np.random.default_rng(seed)
    if port["datatype"] == "BYTES":
        texts = ["", "Jeans", "Crème", 'a,"b"]']
        return random.choice(np.array(texts, dtype=object), size=shape)
    if port["datatype"] == "BOOL":
        return random.integers(0, 2, size=shape).astype(bool)
    dtype = triton_to_np_dtype(port["datatype"])  # that of ml_dtypes for BF16
    if np.issubdtype(dtype, np.integer):
        return random.integers(0, 10, size=shape).astype(dtype)
    return random.normal(size=shape).astype(dtype)


def inputs(client, metadata: dict, data: list, **how):
    out = []
    for port, array in zip(metadata["inputs"], data, strict=True):
        i = client.InferInput(port["name"], list(array.shape), port["datatype"])
        i.set_data_from_numpy(array, **how)
        out.append(i)
    return out


def outputs(client, metadata: dict, **how):
    return [client.InferRequestedOutput(port["name"], **how) for port in metadata["outputs"]]


def same(what: str, want: list, result, metadata: dict) -> None:
    for port, array in zip(metadata["outputs"], want, strict=True):
        got = result.as_numpy(port["name"])
        if got is None or got.shape != array.shape or not equal(got, array):
            sys.exit(f"{what}: {port['name']} is {got}, want {array}")
    print("ok:", what)


def equal(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype == object:
        return all(text(x) == text(y) for x, y in zip(a.flat, b.flat, strict=True))
    return a.dtype == b.dtype and np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=1e-5, atol=1e-6)


def text(x: str | bytes) -> str:
    return x.decode() if isinstance(x, bytes) else x


def refused(what: str, words: str, f) -> None:
    try:
        f()
    except InferenceServerException as e:
        if words in str(e):
            print("ok:", what, "->", e.status(), "-", e.message())
            return
        sys.exit(f"{what}: refused with {e}, want {words}")
    sys.exit(f"{what}: not refused")


def main(address: str, model: str) -> None:
    http, grpc = triton_http.InferenceServerClient(address), triton_grpc.InferenceServerClient(address)
    for name, c in ("http", http), ("grpc", grpc):
        if not (c.is_server_live() and c.is_server_ready() and c.is_model_ready(model)):
            sys.exit(f"{name}: not live and ready")
    print("ok: live, ready, model ready")

    metadata = http.get_model_metadata(model)
    other = grpc.get_model_metadata(model, as_json=True)
    for kind in "inputs", "outputs":
        for a, b in zip(metadata[kind], other[kind], strict=True):
            if (a["name"], a["datatype"], a["shape"]) != (b["name"], b["datatype"], [int(d) for d in b.get("shape", [])]):
                sys.exit(f"metadata differ: {a}, {b}")
    if (metadata["name"], metadata["versions"]) != (other["name"], other["versions"]) or http.get_server_metadata()["name"] != grpc.get_server_metadata().name:
        sys.exit("metadata differ")
    print("ok: metadata", json.dumps(metadata))

    data = [values(port, i) for i, port in enumerate(metadata["inputs"])]
    half = any(p["datatype"] in ("FP16", "BF16") for p in metadata["inputs"] + metadata["outputs"])
    first = http.infer(model, inputs(triton_http, metadata, data))
    want = [first.as_numpy(p["name"]) for p in metadata["outputs"]]
    if model == "several":  # gives back what it takes
        same("http, what went in", data, first, metadata)
    same("http, binary, all outputs by default", want, first, metadata)
    request, asked = inputs(triton_http, metadata, data), outputs(triton_http, metadata)
    same("http, binary, outputs asked for", want, http.infer(model, request, outputs=asked, request_id="r1", model_version=metadata["versions"][0]), metadata)
    if http.infer(model, request, request_id="r1").get_response()["id"] != "r1":
        sys.exit("http: the id is not echoed")
    for coding in "gzip", "deflate":
        same(f"http, {coding}", want, http.infer(model, request, outputs=asked, request_compression_algorithm=coding, response_compression_algorithm=coding), metadata)
    if not half:
        plain = inputs(triton_http, metadata, data, binary_data=False)
        same("http, JSON", want, http.infer(model, plain, outputs=outputs(triton_http, metadata, binary_data=False)), metadata)
        same("http, JSON in, binary out", want, http.infer(model, plain, outputs=asked), metadata)
    same("http, async", want, http.async_infer(model, request, outputs=asked).get_result(), metadata)

    request, asked = inputs(triton_grpc, metadata, data), outputs(triton_grpc, metadata)
    same("grpc, all outputs by default", want, grpc.infer(model, request), metadata)
    answer = grpc.infer(model, request, outputs=asked, request_id="r2", model_version=metadata["versions"][0], client_timeout=10, parameters={"note": "n", "top": 3})
    same("grpc, outputs asked for, with a deadline and parameters", want, answer, metadata)
    if answer.get_response().id != "r2":
        sys.exit("grpc: the id is not echoed")
    same("grpc, gzip", want, grpc.infer(model, request, outputs=asked, compression_algorithm="gzip"), metadata)
    done: queue.Queue = queue.Queue()
    grpc.async_infer(model, request, lambda result, error: done.put((result, error)), outputs=asked)
    result, error = done.get(timeout=20)
    if error is not None:
        sys.exit(f"grpc, async: {error}")
    same("grpc, async", want, result, metadata)

    wrong = triton_http.InferInput("no-such-input", [1], "FP32")
    wrong.set_data_from_numpy(np.zeros(1, np.float32))
    refused("http, unknown input", "none of this model's", lambda: http.infer(model, [wrong]))
    refused("http, no inputs", "is missing", lambda: http.infer(model, []))
    refused("http, unknown model", "there is no model", lambda: http.get_model_metadata("no-such-model"))
    refused("http, unknown output", "none of this model's", lambda: http.infer(model, inputs(triton_http, metadata, data), outputs=[triton_http.InferRequestedOutput("no-such-output")]))
    refused("grpc, no inputs", "is missing", lambda: grpc.infer(model, []))
    refused("grpc, unknown model", "there is no model", lambda: grpc.get_model_metadata("no-such-model"))
    refused("grpc, unknown version", "has no version", lambda: grpc.infer(model, request, model_version="no-such-version"))
    refused("grpc, the configuration, which is Triton's alone", "is not served here", lambda: grpc.get_model_config(model))
    http.close()
    grpc.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
