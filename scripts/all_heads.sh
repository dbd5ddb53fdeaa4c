#!/usr/bin/env bash
# Makes results/gpu/all_heads.jsonl.gz on a machine with a GPU: the bounds of both theorems, and what draft, oracle and
# random masks keep, of all 24 heads of the small video model at four steps of four prompts, on the full and on a ragged
# grid. Q, K, V are captured for it and thrown away: 5 GB of disk while it runs.
#
#   scripts/all_heads.sh BUILD OUT
#
# BUILD: a build folder with draftbench and CUDA. OUT: the folder of the records, which replace those of an earlier run.
# Needs PyTorch for the capture.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -ne 2 ]; then
  echo "all_heads: wanted BUILD OUT, found $# arguments" >&2
  exit 2
fi
draftbench=$(realpath "$1")/draftbench out=$2
mkdir -p "$out"
records=$out/all_heads.jsonl
rm -f "$records"
dumps=$(mktemp -d)
trap 'rm -rf "$dumps"' EXIT

measure() {  # measure NAME GRID OPTIONS...: fewer cells a head than the shipped dumps get
  echo "== $1: capture"
  PYTHONPATH=scripts python3 -m lab.model.capture --weights data/photodit.safetensors --grid "$2" --select all \
    --at 8,14,20,26 --prompts 4 --seed 101 --compression 0 --out "$dumps/$1.h5" >"$dumps/$1.txt"
  echo "== $1: bounds"
  "$draftbench" bounds "$dumps/$1.h5" --device cuda --pool avg,max --rule softmax "${@:3}" --quiet --out "$records"
  rm "$dumps/$1.h5"
}

measure all_heads 8x32x48 --region 8x16,16x16 --sparsity 0.5,0.75,0.9
measure all_heads_ragged 2x30x52 --region 8x16 --sparsity 0.9
gzip -9nf "$records"
ls -l "$records.gz"
