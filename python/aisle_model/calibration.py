"""A temperature, fitted on held-out answers as Aisle's internal/fit does."""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def temper(p: Floats, t: float) -> Floats:
    """Returns p^(1/t), each row renormalised: what serving does with the
    package's temperature."""
    x = np.log(np.maximum(p, 1e-30)) / t
    x = np.exp(x - x.max(axis=1, keepdims=True))
    out: Floats = x / x.sum(axis=1, keepdims=True)
    return out


def temperature(p: Floats, truth: npt.NDArray[np.intp]) -> float:
    """Returns the temperature, between 0.2 and 5, under which the truths are
    likeliest. p is [answers, labels], truth the right labels' indices."""
    if len(p) == 0 or len(p) != len(truth):
        raise ValueError(f"{len(p)} answers and {len(truth)} truths: want as many, and at least one")
    rows = np.arange(len(p))

    def loss(inverse: float) -> float:
        right = temper(p, 1 / inverse)[rows, truth]
        return float(-np.log(np.maximum(right, 1e-12)).sum())

    # The loss is convex in 1/t: a golden-section search.
    low, high, ratio = 0.2, 5.0, (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = loss(a), loss(b)
    while high - low > 1e-6:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = loss(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = loss(b)
    return 2 / (low + high)
