#!/usr/bin/env bash
# Prints the python of a virtual environment that has requirements.txt of this
# folder, or of the folder that is named, and makes it where it is not there yet.
# It is in the user's cache, named after what is in it, so that another
# requirements.txt is another environment and a broken installation is none.
#
# To change what is in it, edit requirements.in and run beside it
#   uv pip compile --python-version 3.11 --universal --generate-hashes --only-binary :all: \
#     --no-header --no-annotate --no-emit-index-url requirements.in -o requirements.txt
set -euo pipefail

requirements=${1:-$(dirname "$0")}/requirements.txt
python=$(command -v python3) || { echo "there is no python3" >&2; exit 1; }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$("$python" -V) is older than 3.11, which the pinned packages need" >&2; exit 1; }
"$python" -c 'import ensurepip, venv' 2>/dev/null || { echo "python3 has no venv (on Debian: apt-get install python3-venv)" >&2; exit 1; }

cache=${XDG_CACHE_HOME:-$HOME/.cache}/aisle/recipes
name=$({ cat "$requirements"; "$python" -c 'import sys; print(sys.version, sys.prefix)'; } | sha256sum | cut -c1-16)
venv=$cache/$name
mkdir -p "$cache"
exec 9>"$cache/$name.lock"
flock 9 # tests of several packages ask at once
if [ ! -e "$venv/complete" ]; then
	echo "installing $requirements into $venv" >&2
	rm -rf "$venv"
	"$python" -m venv "$venv" >&2
	"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 2 --timeout 20 \
		--only-binary :all: --require-hashes --requirement "$requirements" >&2
	touch "$venv/complete"
fi
echo "$venv/bin/python"
