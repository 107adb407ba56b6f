"""Trains the photo network from scratch on the CPU.

    train.py --data DATA/fashion --work CACHE member-0
    train.py --data DATA/fashion --work CACHE member-1
    train.py --data DATA/fashion --work CACHE photo

Two members are trained alike from different seeds, then the first goes on to
learn from the photos and from what both say of each photo and of its mirror:
one network comes near to four answers' mean at the price of one. The result is
CACHE/photo.pt.

Resumable: a checkpoint is kept in the work folder after every epoch, and
randomness is a function of the step, so that a run that was stopped ends like
one that was not.
"""

import argparse
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import resource
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a busy machine has better uses for a spinning thread

import numpy as np
import torch
from torch.nn import functional as F

import photos
from network import Network


@dataclasses.dataclass(frozen=True)
class Recipe:
    # Cycles of (pixels, epochs) phases and the peak of each cycle's learning rate.
    cycles: tuple = ((((64, 12), (80, 8), (96, 8)), 0.08), (((96, 22),), 0.06), (((128, 16),), 0.05))
    batch: int = 64
    decay: float = 5e-4
    smoothing: float = 0.1
    mixup: float = 0.2  # Beta parameter
    mixup_share: float = 0.35  # of the steps
    cutmix_share: float = 0.25
    plain: float = 0.15  # the last share of a cycle mixes nothing
    auxiliary: float = 0.15  # weight of each auxiliary attribute's loss
    words: float = 0.25  # weight of the title words' loss
    teaching: float = 0  # the teachers' share of the label's loss
    seed: int = 0

    def epochs(self):
        """Yields (pixels, share of its cycle passed before the epoch, share after, peak, first of cycle)."""
        for phases, peak in self.cycles:
            sizes = [pixels for pixels, n in phases for _ in range(n)]
            for k, pixels in enumerate(sizes):
                yield pixels, k / len(sizes), (k + 1) / len(sizes), peak


RECIPES = {
    "member-0": Recipe(seed=0),
    "member-1": Recipe(seed=1),
    "photo": Recipe(cycles=((((128, 20),), 0.05),), teaching=0.7, seed=2),
}
MEMBERS = ("member-0", "member-1")


def rate(at: float, peak: float, warm: float) -> float:
    """One cycle: cosine up from a tenth over the first warm share, cosine down to 0."""
    if at < warm:
        return peak * (0.1 + 0.9 * (1 - math.cos(math.pi * at / warm)) / 2)
    return peak * max(1e-4, 0.5 * (1 + math.cos(math.pi * (at - warm) / (1 - warm))))


def augment(x: torch.Tensor, size: int, g: torch.Generator) -> torch.Tensor:
    """Scale, aspect, flip, shift, small rotation; saturation, contrast about white."""
    n = len(x)
    r = lambda: torch.rand(n, generator=g)
    low = 0.65**0.5
    scale, aspect = low + (1.08 - low) * r(), torch.exp((r() - 0.5) * 0.3)
    sx, sy = scale * aspect, scale / aspect
    flip, turn = (r() < 0.5).float() * 2 - 1, (r() - 0.5) * 0.2
    tx, ty = (r() * 2 - 1) * (1 - sx).abs(), (r() * 2 - 1) * (1 - sy).abs()
    theta = torch.stack(
        [
            torch.stack([sx * flip * turn.cos(), -sy * turn.sin(), tx], 1),
            torch.stack([sx * flip * turn.sin(), sy * turn.cos(), ty], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    around = lambda width: (1 + (r() - 0.5) * width).view(-1, 1, 1, 1)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * around(0.6) * (r() > 0.1).float().view(-1, 1, 1, 1)
    return 1 - (1 - x) * around(0.5)


def loss(out, pick: np.ndarray, data: photos.Photos, recipe: Recipe) -> torch.Tensor:
    logits, words, others = out
    total = (1 - recipe.teaching) * F.cross_entropy(logits, data.target[pick], label_smoothing=recipe.smoothing)
    total = total + recipe.words * F.cross_entropy(words, data.words[pick])
    for k, other in enumerate(others):
        total = total + recipe.auxiliary * F.cross_entropy(other, data.auxiliary[pick, k], label_smoothing=recipe.smoothing)
    return total


def mix(x: torch.Tensor, at: float, recipe: Recipe, seed: list[int]):
    """Returns the batch, mixed with itself in another order, that order, and
    the share of the first: mixup of all pixels, or cutmix of a rectangle."""
    rng = np.random.default_rng(seed)
    order, what = rng.permutation(len(x)), rng.random()
    if at >= 1 - recipe.plain or what >= recipe.mixup_share + recipe.cutmix_share:
        return x, order, 1.0
    if what < recipe.mixup_share:
        share = float(rng.beta(recipe.mixup, recipe.mixup))
        return (share * x + (1 - share) * x[order]).contiguous(memory_format=torch.channels_last), order, share
    size = x.shape[-1]
    side = int(size * math.sqrt(rng.random()))
    top, left = rng.integers(0, size - side + 1, 2)
    x = x.clone(memory_format=torch.channels_last)
    x[:, :, top : top + side, left : left + side] = x[order][:, :, top : top + side, left : left + side]
    return x, order, 1 - (side / size) ** 2


@torch.no_grad()
def taught(teachers: list[Network], x: torch.Tensor) -> torch.Tensor:
    """What the teachers say of a batch and of its mirror, on average."""
    return sum(t(v).softmax(1) for t in teachers for v in (x, x.flip(3))) / (2 * len(teachers))


@torch.no_grad()
def predict(model: Network, pixels: np.ndarray) -> torch.Tensor:
    model.eval()
    out = [model(photos.normalise(photos.tensor(pixels[i : i + 64]))) for i in range(0, len(pixels), 64)]
    model.train()
    return torch.cat(out)


def cpu() -> float:
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def main() -> None:
    args = argparse.ArgumentParser()
    args.add_argument("--data", type=pathlib.Path, required=True)
    args.add_argument("--work", type=pathlib.Path, required=True)
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("network", choices=RECIPES)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    name, recipe = args.network, RECIPES[args.network]
    data = photos.load(args.data, args.work)
    key = repr((recipe, data.ids.tolist(), data.part.tolist()))

    def network() -> Network:
        return Network(len(data.labels), data.words.shape[1], data.classes).to(memory_format=torch.channels_last)

    torch.manual_seed(recipe.seed)
    model, teachers, inherited = network(), [], 0.0
    for member in MEMBERS if recipe.teaching else ():
        trained = torch.load(args.work / f"{member}.pt", weights_only=False)
        teachers.append(network().eval())
        teachers[-1].load_state_dict(trained["model"])
        inherited += trained["cpu"]
        key += trained["key"]
    if teachers:
        model.load_state_dict(teachers[0].state_dict())
    key = hashlib.sha256(key.encode()).hexdigest()
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.SGD(
        [{"params": weights, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}],
        lr=0.1, momentum=0.9, nesterov=True,
    )
    checkpoint, first, spent = args.work / f"{name}.checkpoint", 0, inherited
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=False)
        if saved["key"] == key:  # else it is of another recipe or other data: begin anew
            model.load_state_dict(saved["model"])
            optimiser.load_state_dict(saved["optimiser"])
            first, spent = saved["epoch"], saved["cpu"]

    train, check = (np.flatnonzero(data.part == p) for p in ("train", "validation"))
    epochs, steps = list(recipe.epochs()), len(train) // recipe.batch
    cost = [pixels**2 for pixels, *_ in epochs]
    began, begun = time.time(), cpu()
    model.train()
    for e in range(first, len(epochs)):
        pixels, before, after, peak = epochs[e]
        warm = 0.2 if not teachers and e < sum(n for _, n in recipe.cycles[0][0]) else 0.05
        order, running = np.random.default_rng([recipe.seed, e]).permutation(train), 0.0
        for i in range(steps):
            at = before + (after - before) * i / steps
            for group in optimiser.param_groups:
                group["lr"] = rate(at, peak, warm)
            g = torch.manual_seed(recipe.seed * 10**6 + e * steps + i)  # the default generator: dropout's too
            pick = np.sort(order[i * recipe.batch : (i + 1) * recipe.batch])
            x = photos.normalise(augment(photos.tensor(data.pixels[pick]), pixels, g))
            x, other, share = mix(x, at, recipe, [recipe.seed, e, i])
            out = model(x)
            l = loss(out, pick, data, recipe)
            if share < 1:
                l = share * l + (1 - share) * loss(out, pick[other], data, recipe)
            if teachers:
                l = l + recipe.teaching * F.cross_entropy(out[0], taught(teachers, x))
            optimiser.zero_grad(set_to_none=True)
            l.backward()
            optimiser.step()
            running += l.item() / steps
            if sys.stderr.isatty() and i % 5 == 0:
                print(f"\r{name} {bar(cost, e, (i + 1) / steps)} step {i + 1}/{steps}", end="", file=sys.stderr, flush=True)
        saved = {
            "key": key, "epoch": e + 1, "cpu": spent + cpu() - begun, "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        torch.save(saved, checkpoint.with_suffix(".tmp"))
        os.replace(checkpoint.with_suffix(".tmp"), checkpoint)
        note = ""
        if e % 4 == 3 or e == len(epochs) - 1:
            right = (predict(model, data.pixels[check]).argmax(1) == data.target[check]).float().mean()
            note = f" validation {right:.4f}"
        print(f"\r{name} {bar(cost, e, 1)} epoch {e + 1}/{len(epochs)} at {pixels} px loss {running:.3f}{note}"
              f" cpu {saved['cpu'] / 60:.1f} min, wall {(time.time() - began) / 60:.1f} min", flush=True)
    result = {
        "key": key, "model": model.state_dict(), "labels": data.labels, "classes": data.classes, "words": data.words.shape[1],
        "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))), "cpu": spent + cpu() - begun,
    }
    torch.save(result, args.work / f"{name}.pt")


def bar(cost: list[int], epoch: int, share: float) -> str:
    done = (sum(cost[:epoch]) + cost[epoch] * share) / sum(cost)
    return "[" + ("#" * int(30 * done)).ljust(30, ".") + f"] {100 * done:3.0f}%"


if __name__ == "__main__":
    main()
