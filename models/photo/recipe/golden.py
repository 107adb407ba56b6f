"""Writes what Python says of some test photos, for the test that holds serving's
preprocessing (Go) to training's (Pillow).

    golden.py --data DATA/fashion --work CACHE --package models/photo --out models/testdata/photo-python.csv

Columns id, sha256 of the photo's file, label, probability (calibrated by the
package's temperature): no data.
"""

import argparse
import csv
import hashlib
import pathlib
import re

import numpy as np
import onnxruntime

import photos


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--data", type=pathlib.Path, required=True)
    args.add_argument("--work", type=pathlib.Path, required=True)
    args.add_argument("--package", type=pathlib.Path, required=True)
    args.add_argument("--out", type=pathlib.Path, required=True)
    args.add_argument("--photos", type=int, default=400)
    args = args.parse_args()
    data = photos.load(args.data, args.work)
    temperature = float(re.search(r"^temperature: (\S+)$", (args.package / "model.yaml").read_text(), re.M)[1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(args.package / "model.onnx"), options, providers=["CPUExecutionProvider"])
    test = np.flatnonzero(data.part == "test")
    pick = sorted(test, key=lambda i: hashlib.sha256(str(data.ids[i]).encode()).digest())[: args.photos]
    with open(args.out, "w", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(["id", "sha256", "label", "probability"])
        for i in sorted(pick):
            x = photos.normalise(photos.tensor(data.pixels[i : i + 1])).contiguous().numpy()
            logits = session.run(["logits"], {"image": x})[0][0].astype(np.float64) / temperature
            p = np.exp(logits - logits.max())
            p /= p.sum()
            digest = hashlib.sha256((args.data / "images" / f"{data.ids[i]}.jpg").read_bytes()).hexdigest()
            out.writerow([data.ids[i], digest, data.labels[p.argmax()], f"{p.max():.4f}"])


if __name__ == "__main__":
    main()
