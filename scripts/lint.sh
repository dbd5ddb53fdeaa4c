#!/usr/bin/env bash
# Format, lint and types, with one version of each tool for everybody.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

CLANG=18.1.8 RUFF=0.17.6 MYPY=2.4.1

usage() {
  cat <<'TEXT'
Usage: ./scripts/lint.sh [--fix] [--tidy]
clang-format and ruff on all sources, mypy on draftattention and on the scripts' shared parts. The tools go into a
virtual environment, build/lint, from the Python package index.
  --fix          format, and mend what ruff can mend
  --tidy         clang-tidy too, on every C++ source that is no test and no CUDA (minutes)
TEXT
}

fix='' tidy=''
while [ $# -gt 0 ]; do
  case $1 in
    --fix) fix=1; shift ;;
    --tidy) tidy=1; shift ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; fail "unknown option '$1'" ;;
  esac
done

cd "$ROOT"
install_missing
tools=$ROOT/build/lint/bin
wanted="clang-format==$CLANG ruff==$RUFF mypy==$MYPY${tidy:+ clang-tidy==$CLANG}"
if [ "$(cat build/lint/made-of 2>/dev/null)" != "$wanted" ]; then
  say "installing into build/lint: $wanted"
  need_venv
  python3 -m venv --clear build/lint
  # shellcheck disable=SC2086  # words
  "$tools/pip" install -q --disable-pip-version-check $wanted || fail "the tools could not be installed"
  echo "$wanted" > build/lint/made-of
fi

failed=()
check() {  # check NAME COMMAND...
  say "$1"
  "${@:2}" || failed+=("$1")
}
mapfile -t sources < <(git ls-files '*.cpp' '*.hpp' '*.cu' '*.cuh')
if [ -n "$fix" ]; then
  "$tools/clang-format" -i "${sources[@]}"
  "$tools/ruff" format -q .
fi
check clang-format "$tools/clang-format" --dry-run -Werror "${sources[@]}"
check "ruff format" "$tools/ruff" format -q --check .
check ruff "$tools/ruff" check -q ${fix:+--fix} .
check mypy "$tools/mypy"
if [ -n "$tidy" ]; then  # without precompiled headers, which clang cannot read
  cmake -S . -B build/tidy -G Ninja -DDRAFT_CUDA=OFF -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >build/tidy.log &&
    cmake --build build/tidy --target draft_build_info generated/record_schema_text.hpp generated/metrics_text.hpp >>build/tidy.log || fail "cmake: see build/tidy.log"
  check clang-tidy env PYTHONPATH=scripts "$PYTHON" -m lab.checks.tidy "$tools/clang-tidy" build/tidy
fi
[ ${#failed[@]} -eq 0 ] || fail "not clean: ${failed[*]}"
say "clean"
