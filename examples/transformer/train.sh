#!/usr/bin/env bash
# Trains the transformer on AISLE_DATA's fashion titles and packages it in
# .cache/examples/transformer. Run it in the project's root (make test-recipes):
# two minutes of one core, in the environment that `make models` makes too.
set -euo pipefail

data=${AISLE_DATA:-../shared/data}/fashion
cache=${XDG_CACHE_HOME:-$HOME/.cache}/aisle
python=$cache/train/bin/python
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=python OMP_NUM_THREADS=1

[ -e "$data/products.csv" ] || { echo "NOT TRAINED: no $data/products.csv; set AISLE_DATA to the folder that holds fashion/" >&2; exit 0; }
if ! "$python" -c 'import torch, onnx, onnxruntime, numpy' 2>/dev/null; then
	echo "creating the training environment in $cache/train (PyTorch, about 6 GB)"
	python3 -m venv "$cache/train"
	"$python" -m pip install --quiet --requirement models/photo/recipe/requirements.txt
fi
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement examples/transformer/requirements.txt
mkdir -p "$cache/fashion"
go run ./models/split -out "$cache/fashion"
nice -n 10 "$python" -W ignore examples/transformer/train.py --data "$data" --work "$cache/fashion" --out .cache/examples/transformer
