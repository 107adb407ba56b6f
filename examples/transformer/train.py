"""Trains a small transformer on the fashion titles and packages it.

    train.py --data AISLE_DATA/fashion --work CACHE/fashion --out PACKAGE

CACHE is where models/split wrote split.csv and labels.txt. From scratch, one
thread, a few minutes: 0.6 million weights. What is packaged is the network of
the epoch that was best on the validation part; the test part is looked at once.
"""

import argparse
import csv
import pathlib
import time

import numpy as np
import tokenizers
import torch
from torch import nn
from torch.nn import functional as F

from aisle_model import Wordpiece, package

VOCABULARY, TOKENS = 4096, 32
WIDTH, HEADS, LAYERS = 96, 4, 2


class Layer(nn.Module):
    """Attention and a feed-forward part, each normalised first and added."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.qkv, self.mixed = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.forward_part = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3 * WIDTH), nn.GELU(), nn.Linear(3 * WIDTH, WIDTH), nn.Dropout(0.1)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows, tokens = x.shape[0], x.shape[1]
        heads = self.qkv(self.before(x)).reshape(rows, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
        x = x + self.dropout(self.mixed(seen.permute(0, 2, 1, 3).reshape(rows, tokens, WIDTH)))
        return x + self.forward_part(x)


class Reader(nn.Module):
    """Token ids and their mask, [batch, tokens] INT64, to logits."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TOKENS, WIDTH)
        nn.init.normal_(self.words.weight, std=0.1)
        nn.init.normal_(self.places.weight, std=0.02)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.out = nn.Sequential(nn.LayerNorm(WIDTH), nn.Dropout(0.1), nn.Linear(WIDTH, labels))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        there = attention_mask.to(torch.float32)
        x = self.words(input_ids) + self.places.weight[: input_ids.shape[1]]
        hidden = ((1 - there) * -1e4)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, hidden)
        mean = (x * there[:, :, None]).sum(1) / there.sum(1, keepdim=True)
        out: torch.Tensor = self.out(mean)
        return out


def tokenizer_of(titles: list[str]) -> tokenizers.Tokenizer:
    t = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    t.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    t.train_from_iterator(titles, trainer)
    t.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))]
    )
    return t


def encode(t: tokenizers.Tokenizer, titles: list[str]) -> dict[str, np.ndarray]:
    """Ids and mask, padded to the longest title."""
    rows = [e.ids for e in t.encode_batch(titles)]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def right(model: Reader, x: dict[str, np.ndarray], truth: np.ndarray) -> float:
    model.eval()
    with torch.no_grad():
        said = [model(*(torch.from_numpy(v[i : i + 256]) for v in x.values())).argmax(1) for i in range(0, len(truth), 256)]
    return float((torch.cat(said).numpy() == truth).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    order = np.random.default_rng(1)

    labels = (args.work / "labels.txt").read_text(encoding="utf-8").splitlines()
    part = {row["id"]: row["split"] for row in csv.DictReader((args.work / "split.csv").open(encoding="utf-8"))}
    titles: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    kinds: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for row in csv.DictReader((args.data / "products.csv").open(encoding="utf-8")):
        if row["id"] in part:
            titles[part[row["id"]]].append(row["productDisplayName"])
            kinds[part[row["id"]]].append(row["articleType"])
    truth = {name: np.array([labels.index(k) for k in of]) for name, of in kinds.items()}

    t = tokenizer_of(titles["train"])
    t.enable_truncation(TOKENS)
    x = {name: encode(t, of) for name, of in titles.items()}
    model = Reader(len(labels))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    steps = args.epochs * (len(titles["train"]) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps)
    best, kept, began = 0.0, model.state_dict(), time.process_time()
    for epoch in range(args.epochs):
        model.train()
        shuffled = order.permutation(len(titles["train"]))
        for i in range(len(shuffled) // 64):
            rows = shuffled[64 * i : 64 * (i + 1)]
            longest = int(x["train"]["attention_mask"][rows].sum(1).max())
            batch = [torch.from_numpy(v[rows, :longest]) for v in x["train"].values()]
            loss = F.cross_entropy(model(*batch), torch.from_numpy(truth["train"][rows]), label_smoothing=0.02)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        found = right(model, x["validation"], truth["validation"])
        print(f"epoch {epoch + 1}: accuracy {found:.4f} on validation, {time.process_time() - began:.0f} CPU-seconds", flush=True)
        if found > best:
            best, kept = found, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)
    accuracy = right(model, x["test"], truth["test"])

    args.out.mkdir(parents=True, exist_ok=True)
    # The file is truncation's and padding's owner no more: model.yaml says the first, the batch the second.
    t.no_truncation()
    t.save(str(args.out / "tokenizer.json"))
    made = package(
        model, args.out, name="transformer", version="1", labels=labels,
        preprocess=Wordpiece(args.out / "tokenizer.json", TOKENS),
        check={k: v[:400] for k, v in x["test"].items()}, held_out=(x["validation"], kinds["validation"]),
        description="article type of a fashion product from its title, by a transformer of two layers",
        examples=[{"product": {"title": "Striped cotton shirt with long sleeves"}, "label": "Shirts", "atLeast": 0.5}],
        provenance={"recipe": "examples/transformer/train.py", "data": "fashion", "split": "components-70-15-15-v1",
                    "versions": {"torch": torch.__version__, "tokenizers": tokenizers.__version__}},
        metrics={"accuracy": round(accuracy, 4), "products": len(titles["test"])},
    )  # fmt: skip
    print(f"{made.path}: accuracy {accuracy:.4f} on {len(titles['test'])} test titles, temperature {made.temperature:g}, "
          f"the graph's probabilities differ from the network's by {made.difference:.1e} at most")


if __name__ == "__main__":
    main()
