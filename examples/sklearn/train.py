"""Fits TF-IDF and a linear classifier, and packages them as a graph of strings.

    train.py --out PACKAGE                     on the made-up products of samples/
    train.py --out PACKAGE --offers FOLDER     on AISLE_DATA/offers

The samples are thirty titles, one of each article type: enough to see how a
classifier comes to be, and not to be right. The offers are 28,184 of ten
categories; offers of the same product (cluster_id) are all in training or all
held out: 70% train, 15% fit the temperature, 15% test.
"""

import argparse
import csv
import hashlib
import pathlib
import random
from typing import Any

import sklearn
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from aisle_model import Strings, package


def pipeline(**options: Any) -> Any:
    # ONNX has no \b, and its "C" locale lower-cases ASCII alone: a pattern of
    # ASCII letters is read alike by both sides, whatever the title.
    words = TfidfVectorizer(token_pattern=r"[a-zA-Z0-9]+", ngram_range=(1, 2), **options)
    return make_pipeline(words, LogisticRegression(C=100, max_iter=1000))


def rows(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def of_samples(samples: pathlib.Path, out: pathlib.Path) -> None:
    products = rows(samples / "products.csv")
    titles, kinds = [p["title"] for p in products], [p["category"] for p in products]
    made = package(
        pipeline().fit(titles, kinds), out, name="sklearn", version="1", preprocess=Strings(),
        check=[*titles, "", "?!", "Épée ΣΧ", "an unheard-of thing"],
        description="article type of a product from its title, learned from thirty made-up products",
        examples=[{"product": {"title": title}, "label": kind} for title, kind in zip(titles[:3], kinds)],
        provenance={"recipe": "examples/sklearn/train.py", "data": "samples", "split": "none: all train",
                    "dataFiles": digest(samples / "products.csv"), "versions": {"scikit-learn": sklearn.__version__}},
    )  # fmt: skip
    print(f"{made.path}: {made.rows} answers checked, they differ by {made.difference:.1e} at most")


def of_offers(offers: pathlib.Path, out: pathlib.Path) -> None:
    products = rows(offers / "products.csv")
    clusters = sorted({p["cluster_id"] for p in products})
    random.Random(1).shuffle(clusters)
    rank = {c: i / len(clusters) for i, c in enumerate(clusters)}

    def part(low: float, high: float) -> tuple[list[str], list[str]]:
        chosen = [p for p in products if low <= rank[p["cluster_id"]] < high]
        return [p["product_title"] for p in chosen], [p["category_label"].strip() for p in chosen]

    train, held_out, test = part(0, 0.7), part(0.7, 0.85), part(0.85, 1)
    # The words of one offer alone would be most of the graph.
    model = pipeline(min_df=2).fit(*train)
    accuracy = float(model.score(*test))
    made = package(
        model, out, name="offers", version="1", preprocess=Strings(), check=test[0], held_out=held_out,
        description="category of a price-comparison site's offer from its title",
        provenance={"recipe": "examples/sklearn/train.py", "data": "offers", "split": "cluster_id-70-15-15",
                    "dataFiles": digest(offers / "products.csv"), "versions": {"scikit-learn": sklearn.__version__}},
        metrics={"accuracy": round(accuracy, 4), "products": len(test[0])},
    )  # fmt: skip
    print(
        f"{made.path}: accuracy {accuracy:.4f} on {len(test[0])} offers of clusters held out, temperature {made.temperature:g}, "
        f"{made.rows} answers checked, they differ by {made.difference:.1e} at most"
    )


def digest(path: pathlib.Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    here = pathlib.Path(__file__).parent
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=here / "model")
    parser.add_argument("--samples", type=pathlib.Path, default=here.parents[1] / "samples")
    parser.add_argument("--offers", type=pathlib.Path)
    args = parser.parse_args()
    if args.offers:
        of_offers(args.offers, args.out)
    else:
        of_samples(args.samples, args.out)


if __name__ == "__main__":
    main()
