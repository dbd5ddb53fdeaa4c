#!/usr/bin/env bash
# Installs what is missing, builds, measures the shipped dumps, and writes results/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage() {
  cat <<'TEXT'
Usage: ./scripts/reproduce.sh [--build-dir DIR] [--results DIR] [--with-kernels]
Installs what is missing (as root or with sudo; nothing if all is there), builds, runs the main job on the
shipped dumps and writes records, tables, plots, report.md and a site that opens from disk, site/index.html. A run
that was stopped continues. The times of GPU runs in results/gpu/ are shown in the report and not made again.
draftbench is installed in build/venv.
  --build-dir DIR   where to build (default: build/release)
  --results DIR     where to write (default: results)
  --with-kernels    build the CUDA kernels where no GPU can run them, too
Example: ./scripts/reproduce.sh --results /var/tmp/my-results
TEXT
}

build_dir=$ROOT/build/release
results=$ROOT/results
with_kernels=
while [ $# -gt 0 ]; do
  case $1 in
    --build-dir) [ $# -ge 2 ] || fail "--build-dir needs a folder"; build_dir=$2; shift 2 ;;
    --results) [ $# -ge 2 ] || fail "--results needs a folder"; results=$2; shift 2 ;;
    --with-kernels) with_kernels=1; shift ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option '$1'" ;;
  esac
done
mkdir -p "$results" "$(dirname "$build_dir")"

install_missing
install_site
# Kernels take three quarters of the build. Where no GPU can run them they are left out, but for a build folder that
# holds them already.
options=(-DCMAKE_BUILD_TYPE=Release)
if [ -n "$with_kernels" ] || has_gpu; then
  options+=(-DDRAFT_CUDA=ON)
elif ! grep -q '^DRAFT_CUDA:BOOL=ON' "$build_dir/CMakeCache.txt" 2>/dev/null; then
  say "no GPU here: the CUDA kernels are left out (--with-kernels, or test.sh, builds them)"
  options+=(-DDRAFT_CUDA=OFF)
fi
build_tree "$build_dir" draftbench "${options[@]}"
install_tree "$build_dir"

# Records of an unfinished run are kept by commit and continued; with local changes they would mix
# numbers of different programs, so that such a run starts afresh.
commit=$(git -C "$ROOT" rev-parse --short HEAD 2>/dev/null || echo unknown)
partial=$results/records.$commit.partial.jsonl
if [ -n "$(git -C "$ROOT" status --porcelain --untracked-files=no -- . ':!results' 2>/dev/null)" ]; then
  rm -f "$partial"
fi
started=$SECONDS
for dump in photodit_512p photodit_heads photodit_ragged; do
  say "measuring data/$dump.h5"
  "$build_dir/draftbench" run "$ROOT/data/$dump.h5" --out "$partial"
done
say "measuring mask policies and the pooled remainder"
# The masks of one head first, for the report's picture: cells that are there are not measured again.
"$build_dir/draftbench" policies "$ROOT/data/photodit_512p.h5" --capture layer4_step16 --sparsity 0.9 --masks --quiet \
  --out "$partial"
"$build_dir/draftbench" policies "$ROOT/data/photodit_512p.h5" --released --out "$partial"
"$build_dir/draftbench" policies "$ROOT/data/photodit_heads.h5" --out "$partial"
for dump in photodit_512p photodit_heads; do
  "$build_dir/draftbench" policies "$ROOT/data/$dump.h5" --policy draft,sol_attn --remainder pooled --out "$partial"
done
"$build_dir/draftbench" bounds "$ROOT/data/photodit_heads.h5" --pool avg --rule softmax,row --sparsity 0.8,0.9,0.95 \
  --remainder pooled --out "$partial"
say "measuring networks of other architectures"
# NAME REGION SIZES: a dump, the region in which everything is measured, and the sizes that are compared.
while read -r name region sizes; do
  dump=$ROOT/data/$name.h5
  "$build_dir/draftbench" bounds "$dump" --region "$region" --rule softmax,row --sparsity 0.5,0.8,0.9 \
    --remainder none,pooled --out "$partial"
  "$build_dir/draftbench" regions "$dump" --region "$sizes" --sparsity 0.9 --out "$partial"
  "$build_dir/draftbench" policies "$dump" --region "$region" --sparsity 0.5,0.8,0.9 --out "$partial"
done <<'TEXT'
smollm2 1x32 1x16,1x32,1x64
terrain_unet 4x4 2x4,4x4,4x8,8x8
vit_focus 4x4 2x4,4x4,4x8,8x8,8x16
TEXT
say "counting FLOPs"
"$build_dir/draftbench" flops --out "$partial"
mv "$partial" "$results/records.jsonl"
# Times of GPU runs are not made again here: report and site show the shipped ones by their commit and GPU.
timed=()
shipped=$(PYTHONPATH=$ROOT/scripts "$PYTHON" -c 'from lab.shared.files import OF_REPORT; print(*OF_REPORT[1:])')
for file in $shipped; do
  [ -f "$ROOT/results/$file" ] || continue
  if ! [ "$results" -ef "$ROOT/results" ]; then
    mkdir -p "$results/$(dirname "$file")" && cp "$ROOT/results/$file" "$results/$file"
  fi
  timed+=("$results/$file")
done
if [ -d "$ROOT/results/video/pictures" ] && ! [ "$results" -ef "$ROOT/results" ]; then
  mkdir -p "$results/video" && cp -r "$ROOT/results/video/pictures" "$results/video/"
fi
if [ -f "$ROOT/results/masks.jsonl.gz" ] && ! [ "$results" -ef "$ROOT/results" ]; then
  cp "$ROOT/results/masks.jsonl.gz" "$results/"  # of the site's explorer of heads
fi
say "writing the report"
PYTHONPATH=$ROOT/scripts "$PYTHON" -m lab.report "$results/records.jsonl" ${timed[@]+"${timed[@]}"} --out "$results" \
  --site "$results/site"
say "making the site"
site="open $results/site/index.html in a browser"
PYTHONPATH=$ROOT/scripts "$PYTHON" -m lab.site --results "$results" --out "$results/site" || site="the site was not made"
say "done in $((SECONDS - started)) s: $results/report.md; $site"
