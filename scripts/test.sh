#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

usage() {
  cat <<'TEXT'
Usage: ./scripts/test.sh [--build-dir DIR] [--sanitize] [--strict] [--no-torch] [--gpus LIST]
Installs what is missing (as root or with sudo; nothing if all is there), builds, runs every test. PyTorch and what its
tests need go into a virtual environment, build/venv, from the Python package index (some gigabytes); draftbench is
installed there too.
  --build-dir DIR   where to build (default: build/release, or build/asan with --sanitize)
  --sanitize        build and test with AddressSanitizer and UndefinedBehaviorSanitizer; without PyTorch's tests, and
                    without the CUDA kernels where no GPU can run them
  --strict          a warning of the compiler stops the build, as in CI
  --no-torch        leave PyTorch out: its tests are skipped
  --gpus LIST       architectures that the CUDA kernels are compiled for, as DRAFT_CUDA_ARCHITECTURES has them
                    (default: 80-real;90a-real;90-virtual)
Example: ./scripts/test.sh --build-dir /var/tmp/draftbench
TEXT
}

build_dir=
with_torch=1
sanitize=
options=(-DCMAKE_BUILD_TYPE=Release)
default_dir=$ROOT/build/release
while [ $# -gt 0 ]; do
  case $1 in
    --build-dir) [ $# -ge 2 ] || fail "--build-dir needs a folder"; build_dir=$2; shift 2 ;;
    --sanitize) options+=(-DCMAKE_BUILD_TYPE=RelWithDebInfo -DDRAFT_SANITIZE=address); default_dir=$ROOT/build/asan
                with_torch=; sanitize=1; shift ;;
    --strict) options+=(-DDRAFT_STRICT=ON); shift ;;
    --no-torch) with_torch=; shift ;;
    --gpus) [ $# -ge 2 ] || fail "--gpus needs a list"; options+=(-DDRAFT_CUDA_ARCHITECTURES="$2"); shift 2 ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option '$1'" ;;
  esac
done
build_dir=${build_dir:-$default_dir}
mkdir -p "$(dirname "$build_dir")"

install_missing
if [ -z "$sanitize" ]; then
  install_site
  install_browser
  install_mpi
fi
if [ -n "$with_torch" ]; then
  install_torch "$VENV"
  if [ -n "$TORCH_PYTHON" ]; then options+=(-DDRAFT_TORCH_PYTHON="$TORCH_PYTHON" -DPython_EXECUTABLE="$TORCH_PYTHON"); fi
fi
# The kernels take most of a build, and sanitizers see nothing of what runs on a GPU.
if [ -n "$sanitize" ] && ! has_gpu; then
  say "no GPU here: the CUDA kernels are left out of the sanitized build"
  options+=(-DDRAFT_CUDA=OFF)
else
  options+=(-DDRAFT_CUDA=ON)
fi
build_tree "$build_dir" all "${options[@]}"
if [ -z "$sanitize" ]; then install_tree "$build_dir"; fi
say "running the tests"
ctest --test-dir "$build_dir" --output-on-failure -j "$(nproc)"
