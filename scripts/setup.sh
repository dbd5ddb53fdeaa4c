# Sourced by the two commands of the README: installs what is missing, finds Python, builds.
# Sets ROOT and PYTHON; defines say, fail, install_missing, build_tree.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }

# package=what shows that it is there: a command, or a file below /usr/include or in the compiler's reach.
NEEDED=(
  g++=g++ cmake=cmake ninja-build=ninja ccache=ccache git=git
  libeigen3-dev=eigen3/Eigen/Core libhdf5-dev=hdf5/serial/hdf5.h libgtest-dev=gtest/gtest.h
  libbenchmark-dev=benchmark/benchmark.h libfmt-dev=fmt/format.h libcli11-dev=CLI/CLI.hpp
  nlohmann-json3-dev=nlohmann/json.hpp libssl-dev=openssl/evp.h
)

is_there() {  # is_there PACKAGE PROBE
  case $2 in
    */*) [ -e "/usr/include/$2" ] || [ -e "/usr/local/include/$2" ] ||
         dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed' ;;
    *) command -v "$2" >/dev/null ;;
  esac
}

# An interpreter that has NumPy, h5py and matplotlib: the shell's own, or the system's.
find_python() {
  local candidate
  for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import numpy, h5py, matplotlib' 2>/dev/null; then
      PYTHON=$(command -v "$candidate")
      return 0
    fi
  done
  return 1
}

install_missing() {
  local missing=() item as_root=()
  for item in "${NEEDED[@]}"; do
    is_there "${item%%=*}" "${item#*=}" || missing+=("${item%%=*}")
  done
  find_python || missing+=(python3 python3-numpy python3-h5py python3-matplotlib)
  if [ ${#missing[@]} -eq 0 ]; then
    say "everything needed is installed"
    return
  fi
  command -v apt-get >/dev/null ||
    fail "this machine has no apt-get; install the equivalents of: ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "not root and no sudo; have an administrator install: ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing with apt-get: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq || say "apt-get update failed; trying with the package lists at hand"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
    fail "apt-get could not install: ${missing[*]}"
  find_python || fail "no python3 with numpy, h5py and matplotlib, though their packages are installed"
}

build_tree() {  # build_tree DIR [CMAKE ARGUMENT ...]
  local dir=$1
  shift
  say "building in $dir"
  cmake -S "$ROOT" -B "$dir" -G Ninja -DPython3_EXECUTABLE="$PYTHON" "$@" >"$dir.configure.log" 2>&1 ||
    { cat "$dir.configure.log" >&2; fail "CMake could not configure $dir"; }
  grep -- '-- CUDA compiler' "$dir.configure.log" || true
  cmake --build "$dir" || fail "the build in $dir failed"
}
