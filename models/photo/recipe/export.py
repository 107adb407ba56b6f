"""Writes the trained photo network as ONNX.

    export.py --work CACHE --out models/photo/model.onnx

Batch norms are folded into the convolutions and the auxiliary heads dropped:
input `image` [batch, 3, 128, 128] FP32 (preprocessed), output `logits`
[batch, labels]. Checked against PyTorch in ONNX Runtime before it is written.
"""

import argparse
import pathlib

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import photos
from network import Network


def fold(module: nn.Module) -> None:
    for part in list(module.modules()):
        if isinstance(part, nn.Sequential):
            for i in range(len(part) - 1):
                if isinstance(part[i], nn.Conv2d) and isinstance(part[i + 1], nn.BatchNorm2d):
                    part[i], part[i + 1] = fuse_conv_bn_eval(part[i], part[i + 1]), nn.Identity()


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--work", type=pathlib.Path, required=True)
    args.add_argument("--out", type=pathlib.Path, required=True)
    args = args.parse_args()
    torch.set_num_threads(1)
    trained = torch.load(args.work / "photo.pt", weights_only=False)
    network = Network(len(trained["labels"]), trained["words"], trained["classes"])
    network.load_state_dict(trained["model"])
    network.eval()
    g = torch.Generator().manual_seed(1)
    x = photos.normalise(torch.rand([8, 3, photos.SIZE, photos.SIZE], generator=g))
    with torch.no_grad():
        want = network(x).numpy()
    fold(network)
    temporary = args.out.with_suffix(".tmp")
    torch.onnx.export(
        network, (x.contiguous(),), str(temporary), input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}}, opset_version=17, dynamo=False,
    )
    onnx.checker.check_model(str(temporary), full_check=True)
    session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
    for n in (1, 8):
        got = session.run(None, {"image": x[:n].contiguous().numpy()})[0]
        if (worst := np.abs(got - want[:n]).max()) > 1e-3:
            raise SystemExit(f"the exported graph differs from the network by {worst}")
    temporary.replace(args.out)
    print(f"{args.out}: {args.out.stat().st_size} bytes; trained in {trained['cpu'] / 60:.1f} CPU-minutes")


if __name__ == "__main__":
    main()
