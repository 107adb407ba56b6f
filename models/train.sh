#!/usr/bin/env bash
# Trains every model package again from AISLE_DATA (default ../shared/data), and
# fits, measures and writes what follows from them. Run it in the project's root
# (make models). About an hour of two cores. The photo's training resumes
# where it was stopped. Python lives in the user's cache, never in the project.
set -euo pipefail

data=${AISLE_DATA:-../shared/data}/fashion
cache=${XDG_CACHE_HOME:-$HOME/.cache}/aisle
work=$cache/fashion
python=$cache/train/bin/python
recipe=models/photo/recipe
export PYTHONDONTWRITEBYTECODE=1

[ -e "$data/products.csv" ] || { echo "no $data/products.csv: set AISLE_DATA to the folder that holds fashion/" >&2; exit 1; }
mkdir -p "$work"
if ! "$python" -c 'import torch, onnx, onnxruntime, numpy, PIL' 2>/dev/null; then
	echo "creating the training environment in $cache/train (PyTorch, about 6 GB)"
	python3 -m venv "$cache/train"
	"$python" -m pip install --quiet --requirement "$recipe/requirements.txt"
fi

go run ./models/split -out "$work" -golden models/split/golden.json
go run ./models/title/recipe
photo=("$python" -u "$recipe/train.py" --data "$data" --work "$work")
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT # what is in the background does not see Ctrl-C
"${photo[@]}" member-0 &
"${photo[@]}" member-1 &
wait -n
wait -n
"${photo[@]}" --threads 2 photo
"$python" "$recipe/export.py" --work "$work" --out models/photo/model.onnx
go run ./models/photo/recipe
go run ./models/fuse
"$python" "$recipe/golden.py" --data "$data" --work "$work" --package models/photo --out models/testdata/photo-python.csv
for tag in "" $(sh hack/turbo.sh); do # without libjpeg-turbo and, where it is installed, with it
	go test -tags "$tag" ./models -run TestGolden -update
	go test -tags "$tag" ./models/...
done
