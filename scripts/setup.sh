# Sourced by the two commands of the README: installs what is missing, finds Python, builds.
# Sets ROOT, VENV and PYTHON; defines say, fail, has_gpu, install_missing, install_site, install_browser, install_mpi, need_venv,
# install_torch (which sets TORCH_PYTHON), build_tree, install_tree.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/build/venv  # the environment that draftbench is installed into

say() { printf '== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 2; }

# package=what shows that it is there: a command, or a file below /usr/include or in the compiler's reach.
NEEDED=(
  g++=g++ cmake=cmake ninja-build=ninja ccache=ccache git=git
  libeigen3-dev=eigen3/Eigen/Core libhdf5-dev=hdf5/serial/hdf5.h libgtest-dev=gtest/gtest.h
  libbenchmark-dev=benchmark/benchmark.h libfmt-dev=fmt/format.h libcli11-dev=CLI/CLI.hpp
  nlohmann-json3-dev=nlohmann/json.hpp libssl-dev=openssl/evp.h zlib1g-dev=zlib.h
)

is_there() {  # is_there PACKAGE PROBE
  case $2 in
    */*|*.h) [ -e "/usr/include/$2" ] || [ -e "/usr/local/include/$2" ] ||
         dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'ok installed' ;;
    *) command -v "$2" >/dev/null ;;
  esac
}

has_gpu() { nvidia-smi -L >/dev/null 2>&1 || compgen -G '/dev/nvidia[0-9]*' >/dev/null; }

# What the Python programs that draftbench installs want, and what their tests want.
MODULES="numpy, scipy, h5py, matplotlib, pandas, jinja2"
TEST_MODULES="$MODULES, pytest"

# An interpreter that has these: the shell's own, or the system's.
find_python() {
  local candidate
  for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c "import $TEST_MODULES" 2>/dev/null; then
      PYTHON=$(command -v "$candidate")
      return 0
    fi
  done
  return 1
}

apt_install() {  # apt_install PACKAGE ...: as root, or with sudo
  local as_root=()
  command -v apt-get >/dev/null || fail "this machine has no apt-get; install the equivalents of: $*"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "not root and no sudo; have an administrator install: $*"
    as_root=(sudo)
  fi
  say "installing with apt-get: $*"
  "${as_root[@]}" apt-get update -qq || say "apt-get update failed; trying with the package lists at hand"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    fail "apt-get could not install: $*"
}

install_missing() {
  local missing=() item
  for item in "${NEEDED[@]}"; do
    is_there "${item%%=*}" "${item#*=}" || missing+=("${item%%=*}")
  done
  find_python || missing+=(python3 python3-numpy python3-scipy python3-h5py python3-matplotlib python3-pandas python3-jinja2
                           python3-pytest)
  if [ ${#missing[@]} -eq 0 ]; then
    say "everything needed is installed"
    return
  fi
  apt_install "${missing[@]}"
  find_python || fail "no python3 with $TEST_MODULES, though their packages are installed"
}

# What lab.site wants: D3, markdown-it-py and Pillow. Where one cannot be had, which is said, there is no site.
install_site() {
  local missing=() each
  compgen -G '/usr/share/nodejs/d3/dist/d3.min.js' >/dev/null || missing+=(node-d3)
  "$PYTHON" -c 'import markdown_it' 2>/dev/null || missing+=(python3-markdown-it)
  "$PYTHON" -c 'import PIL' 2>/dev/null || missing+=(python3-pil)
  for each in "${missing[@]}"; do
    (apt_install "$each") || say "without $each there is no site, and its tests are skipped"
  done
}

# A Chromium that opens the site's pages. Where it cannot be had, which is said, the tests that need it are skipped.
install_browser() {
  if command -v chromium chromium-browser google-chrome >/dev/null; then return; fi
  (apt_install chromium) || say "without chromium tests of the site's pages are skipped"
}

# What several processes that share a run want. Without it, which is said, draftbench runs as one, and their tests are skipped.
install_mpi() {
  if command -v mpirun >/dev/null && command -v mpicc >/dev/null; then return; fi
  (apt_install libopenmpi-dev openmpi-bin) || say "without Open MPI tests of ranks are skipped"
}

# Has python3 make virtual environments with pip in them; where it cannot, with these packages too.
need_venv() {  # need_venv [PACKAGE ...]
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv "$@"
}

# What the PyTorch tests and the Python module want, as pip has it.
TORCH_PACKAGES=("torch>=2.4,<3" "diffusers>=0.36,<1" "transformers>=4.50,<6" "accelerate>=1,<2" "torchmetrics>=1.4,<2"
                "lpips>=0.1.4,<1" "cvvdp>=0.5,<1" "opencv-python-headless>=4.6,<6" "safetensors<1" "nanobind>=2.5,<4"
                "scikit-build-core>=0.10,<1" numpy scipy h5py matplotlib pillow "pandas>=1.5" "jinja2>=3.0" "pytest>=7.2")
TORCH_MODULES="torch, diffusers, transformers, accelerate, torchmetrics, lpips, safetensors, nanobind, scikit_build_core, PIL,"
TORCH_MODULES+=" $TEST_MODULES"

# Sets TORCH_PYTHON: an interpreter that has all of these, the shell's own or one of a virtual environment that is made
# at DIR; empty, and said so, where they cannot be installed: then the tests that need them are skipped.
install_torch() {  # install_torch DIR
  local dir=$1 candidate
  TORCH_PYTHON=
  for candidate in python3 "$dir/bin/python"; do
    if "$candidate" -c "import $TORCH_MODULES" 2>/dev/null; then
      TORCH_PYTHON=$(command -v "$candidate")
      return
    fi
  done
  need_venv python3-dev
  say "installing PyTorch and what its tests need in $dir (--no-torch leaves them out)"
  mkdir -p "$(dirname "$dir")"
  if python3 -m venv --clear "$dir" >"$dir.log" 2>&1 &&
     timeout 1200 "$dir/bin/python" -m pip install -q "${TORCH_PACKAGES[@]}" >>"$dir.log" 2>&1; then
    TORCH_PYTHON=$dir/bin/python
  else
    tail -n 3 "$dir.log" >&2
    say "PyTorch could not be installed ($dir.log): its tests are skipped"
    rm -rf "$dir"
  fi
}

build_tree() {  # build_tree DIR TARGET [CMAKE ARGUMENT ...]
  local dir=$1 target=$2
  shift 2
  say "building in $dir"
  cmake -S "$ROOT" -B "$dir" -G Ninja -DPython3_EXECUTABLE="$PYTHON" "$@" >"$dir.configure.log" 2>&1 ||
    { cat "$dir.configure.log" >&2; fail "CMake could not configure $dir"; }
  grep -E -- '-- (CUDA compiler|MPI):' "$dir.configure.log" || true
  cmake --build "$dir" --target "$target" || fail "the build in $dir failed"
}

# Puts draftbench and its Python parts into VENV, which is made of PYTHON where there is none yet.
install_tree() {  # install_tree DIR
  [ -x "$VENV/bin/python3" ] ||
    "$PYTHON" -m venv --system-site-packages --without-pip "$VENV" || fail "python3 could not make $VENV"
  cmake --install "$1" --prefix "$VENV" >"$1.install.log" ||
    { cat "$1.install.log" >&2; fail "could not install into $VENV"; }
  "$VENV/bin/python3" -c "import $MODULES" || fail "$VENV: wanted a Python with $MODULES"
  say "draftbench is installed: . ${VENV#"$PWD"/}/bin/activate"
}
