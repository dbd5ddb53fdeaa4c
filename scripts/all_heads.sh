#!/usr/bin/env bash
# Makes results/gpu/all_heads.jsonl.gz and policies.jsonl.gz on a machine with a GPU: of all 24 heads of the small video
# model at four steps of four prompts the bounds of both theorems and what draft, oracle and random masks keep, on the full
# and on a ragged grid; and every mask policy, on the full grid. Q, K, V are captured for it and thrown away: 5 GB of disk
# while it runs.
#
#   scripts/all_heads.sh BUILD OUT [PART ...]
#
# BUILD: a build folder with draftbench and CUDA. OUT: the folder of the records, which replace those of an earlier run.
# PART: bounds, policies (default: both). Needs PyTorch for the capture.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then
  echo "all_heads: wanted BUILD OUT [PART ...], found $# arguments" >&2
  exit 2
fi
draftbench=$(realpath "$1")/draftbench out=$2
shift 2
[ $# -gt 0 ] || set -- bounds policies
for part in "$@"; do
  case $part in
    bounds | policies) ;;
    *) echo "all_heads: wanted bounds or policies, found '$part'" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
dumps=$(mktemp -d)
trap 'rm -rf "$dumps"' EXIT

capture() {  # capture NAME GRID
  echo "== $1: capture"
  PYTHONPATH=scripts python3 -m lab.model.capture --weights data/photodit.safetensors --grid "$2" --select all \
    --at 8,14,20,26 --prompts 4 --seed 101 --compression 0 --out "$dumps/$1.h5" >"$dumps/$1.txt"
}
keep() {  # keep NAME: the records of that name, compressed
  gzip -9nf "$out/$1.jsonl"
  ls -l "$out/$1.jsonl.gz"
}

# Fewer cells a head than the shipped dumps get.
bounds() {
  local records=$out/all_heads.jsonl
  rm -f "$records"
  measure() {
    echo "== $1: bounds"
    "$draftbench" bounds "$dumps/$1.h5" --device cuda --pool avg,max --rule softmax "${@:2}" --quiet --out "$records"
  }
  measure all_heads --region 8x16,16x16 --sparsity 0.5,0.75,0.9
  capture all_heads_ragged 2x30x52
  measure all_heads_ragged --region 8x16 --sparsity 0.9
  rm "$dumps/all_heads_ragged.h5"
  keep all_heads
}

policies() {
  local records=$out/policies.jsonl
  rm -f "$records"
  measure() {
    echo "== all_heads: $1"
    "$draftbench" policies "$dumps/all_heads.h5" "${@:2}" --quiet --out "$records"
  }
  measure "policies" --device cuda --calls --sparsity 0.75,0.9
  measure "the pooled remainder" --device cuda --policy draft,oracle,xattention,sol_attn,subblock,dfs_attn \
    --remainder pooled --sparsity 0.75,0.9
  # Blocks of many sizes are the CPU's, which takes a second for a head: one step of each prompt.
  local step=()
  for prompt in 0 1 2 3; do
    for layer in 0 1 2 3 4 5 6 7; do step+=("prompt${prompt}_layer${layer}_step20"); done
  done
  measure "clusters, on the CPU" --policy svg2 --capture "$(IFS=,; echo "${step[*]}")" --sparsity 0.9
  keep policies
}

capture all_heads 8x32x48
for part in "$@"; do "$part"; done
