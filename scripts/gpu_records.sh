#!/usr/bin/env bash
# Makes results/gpu/{latency,overhead,peers}.jsonl on a machine with a Hopper GPU: Q, K, V of the small video model at
# the paper's three grids, then every kernel on them. About 6 minutes on one H100, 6 GB of disk while it runs.
#
#   scripts/gpu_records.sh BUILD OUT [SHAPE ...]
#
# BUILD: a build folder with draftbench and, for the capture and the peers, kernels/python/draftattention.
# OUT: the folder of the records, which are appended to; what is there is not measured again.
# SHAPE: some of wan_512p, wan_768p, hunyuan_768p (default: all). Needs PyTorch. The peers are those that Python finds.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -lt 2 ]; then
  echo "gpu_records: wanted BUILD OUT [SHAPE ...], found $# arguments" >&2
  exit 2
fi
build=$(realpath "$1") out=$2
shift 2
[ $# -gt 0 ] || set -- hunyuan_768p wan_768p wan_512p
draftbench=$build/draftbench
commit=$("$draftbench" about | python3 -c 'import json, sys; print(json.load(sys.stdin)["build"]["commit"])')
mkdir -p "$out"
dumps=$(mktemp -d)
trap 'rm -rf "$dumps"' EXIT

# The model has 8 layers of 3 heads: 24 heads are all of one step's, 40 two heads of every layer at two steps and a half.
two_heads=0:0,0:1,1:0,1:1,2:0,2:1,3:0,3:1,4:0,4:1,5:0,5:1,6:0,6:1,7:0,7:1
half_a_step=0:0@6,0:1@6,2:0@6,2:1@6,4:0@6,4:1@6,6:0@6,6:1@6
capture() {
  case $1 in
    hunyuan_768p) set -- "$1" 33x48x80 --select all --at 5 ;;
    wan_768p) set -- "$1" 21x48x80 --select $two_heads,$half_a_step --at 4,5 ;;
    wan_512p) set -- "$1" 21x32x48 --select $two_heads,$half_a_step --at 4,5 ;;
    *) echo "gpu_records: wanted wan_512p, wan_768p or hunyuan_768p, found '$1'" >&2; exit 2 ;;
  esac
  local shape=$1 grid=$2
  shift 2
  PYTHONPATH=scripts python3 -m lab.model.capture --weights data/photodit.safetensors --grid "$grid" "$@" --compression 0 \
    --out "$dumps/$shape.h5" > "$dumps/$shape.txt"
}

for shape in "$@"; do
  echo "== $shape: capture"
  capture "$shape"
  dump=$dumps/$shape.h5
  echo "== $shape: latency"
  "$draftbench" latency "$dump" --kernel wgmma --sparsity 0.6,0.8,0.9 --remainder none,pooled --out "$out/latency.jsonl"
  "$draftbench" latency "$dump" --kernel wgmma --order region,gather --sparsity 0.6,0.8,0.9 --out "$out/latency.jsonl"
  "$draftbench" latency "$dump" --kernel wgmma --sparsity 0.5,0.55,0.7,0.75,0.85,0.95 --out "$out/latency.jsonl"
  "$draftbench" latency "$dump" --kernel wgmma --policy random,uneven,worst --sparsity 0.6,0.8,0.9 \
    --out "$out/latency.jsonl"
  "$draftbench" latency "$dump" --kernel wgmma --sustain 300 --samples 5 --sparsity 0.6,0.8,0.9 \
    --remainder none,pooled --out "$out/latency.jsonl"
  echo "== $shape: overhead"
  "$draftbench" overhead "$dump" --kernel wgmma --out "$out/overhead.jsonl"
  echo "== $shape: peers"
  PYTHONPATH=scripts:$build/kernels/python${PYTHONPATH:+:$PYTHONPATH} python3 -m lab.peers "$dump" --commit "$commit" \
    --out "$out/peers.jsonl"
  rm "$dump"
done
