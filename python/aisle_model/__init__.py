"""Writes model packages for Aisle.

A model package is a folder with the ONNX graph, `model.yaml`, the labels and a
card; Aisle's classifier serves it (docs/models.md is the reference of
`model.yaml`). `package` makes one of a fitted scikit-learn pipeline or a
PyTorch module and refuses to where the graph does not answer as the original
does. `features` and `pixels` are serving's own preprocessing, for training.

    from aisle_model import Strings, package

    made = package(pipeline, "models/kind", name="kind", version="1",
                   preprocess=Strings(), check=titles, held_out=(titles, kinds))

Not for: training, and choosing a model. What is written is checked again by
`aisle model validate FOLDER`.
"""

from .calibration import temper, temperature
from .imaging import pixels
from .ngrams import features, fold
from .package import Package, ParityError, package
from .preprocess import HashedNgrams, Image, Nothing, Preprocess, Strings, Wordpiece

__all__ = [
    "HashedNgrams",
    "Image",
    "Nothing",
    "Package",
    "ParityError",
    "Preprocess",
    "Strings",
    "Wordpiece",
    "features",
    "fold",
    "package",
    "pixels",
    "temper",
    "temperature",
]
