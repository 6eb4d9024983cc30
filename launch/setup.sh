#!/usr/bin/env bash
# Makes .venv in the repository and installs requirements.txt there:
#     bash launch/setup.sh [--tests]
# --tests: tests/requirements.txt too. PYTHON names the interpreter that .venv is made from.
# A second run finds it done; one that was interrupted is done again.

PYTHON=${PYTHON:-python3}

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# A requirements file's stamp holds its checksum and is written when all of it is installed.
stamp() { echo ".venv/${1//\//-}.done"; }

is_installed() {
    runs .venv/bin/python && [ "$(cat "$(stamp "$1")" 2>/dev/null)" = "$(cksum <"$1")" ]
}

runs() { "$1" -c '' 2>/dev/null; }

# Python compiles with the compilers that it was built with; where they are not there, name others.
choose_compiler() {
    local pair
    if [ -n "${CXX:-}" ]; then
        command -v -- "${CXX%% *}" >/dev/null
        return
    fi
    if runs "$1" && "$1" -c 'import shutil, sys, sysconfig
compilers = sysconfig.get_config_vars("CC", "CXX")
sys.exit(not all(name and shutil.which(name.split()[0]) for name in compilers))'; then
        return
    fi
    for pair in cc:c++ gcc:g++ clang:clang++; do
        if command -v -- "${pair#*:}" >/dev/null; then
            export CC=${pair%:*} CXX=${pair#*:}
            return
        fi
    done
    return 1
}

# missing WHAT APT DNF BREW: note a missing thing and the packages that hold it
missing() {
    local sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo "
    complaints+="
  - $1
      Debian, Ubuntu:  ${sudo}apt-get install -y $2
      Fedora:          ${sudo}dnf install -y $3
      macOS:           $4"
}

# Name everything that the set-up needs and $1, the interpreter, or the machine lacks.
check_machine() {
    local python=$1 version complaints="" other="PYTHON=python3.11 bash launch/setup.sh takes another"
    [ "$python" != .venv/bin/python ] || other="delete .venv to have it made anew"
    if ! runs "$python"; then
        missing "Python 3.10 or newer, with venv and headers (no $python found; PYTHON=... names another)" \
            "python3 python3-venv python3-dev" "python3 python3-devel" "brew install python"
    elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        missing "Python 3.10 or newer ($python is older; $other)" \
            "python3.11 python3.11-venv python3.11-dev" "python3.11 python3.11-devel" \
            "brew install python"
    else
        version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        "$python" -c 'import venv, ensurepip' 2>/dev/null ||
            missing "Python's venv module, with ensurepip" \
                "$version-venv" "python3-libs" "brew install python"
        "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
            missing "Python's headers (Python.h), which pydensecrf2 is compiled with" \
                "$version-dev" "python3-devel" "brew install python"
    fi
    choose_compiler "$python" ||
        missing "a C++ compiler, which compiles pydensecrf2" "g++" "gcc-c++" "xcode-select --install"

    if [ -n "$complaints" ]; then
        fail "the set-up needs what this machine lacks (before apt-get install, once:" \
            "apt-get update):$complaints"
    fi
    command -v git >/dev/null ||
        echo "note: git is not installed; runs will not record the commit they were made with"
}

make_venv() {
    if [ -f .venv/pyvenv.cfg ]; then
        "$PYTHON" -m venv --clear .venv # its Python is gone or was never finished
    else
        "$PYTHON" -m venv .venv
    fi
}

files=(requirements.txt)
case $# in
    0) ;;
    1)
        [ "$1" = --tests ] || fail "unknown option $1; usage: bash launch/setup.sh [--tests]"
        files+=(tests/requirements.txt)
        ;;
    *) fail "too many arguments; usage: bash launch/setup.sh [--tests]" ;;
esac

pip_arguments=()
for file in "${files[@]}"; do
    is_installed "$file" || pip_arguments+=(-r "$file")
done
if [ "${#pip_arguments[@]}" -eq 0 ]; then
    echo "set-up: done already (.venv has all of ${files[*]})"
    exit 0
fi

place=.venv
[ -e .venv ] || place=.
[ -w "$place" ] || fail "cannot write to $ROOT, where .venv goes; install requirements.txt in an" \
    "environment elsewhere, and name its Python before the other scripts: PYTHON=/path/bin/python"
if runs .venv/bin/python; then
    check_machine .venv/bin/python
    echo "set-up: adding to the .venv that is there; delete it to start anew"
else
    check_machine "$PYTHON"
    echo "set-up: making .venv with $("$PYTHON" --version)"
    make_venv
fi
echo "set-up: installing; the first time it takes minutes and about 6 GB (PyTorch brings CUDA)"
# an environment may come without pip, or have been left before it got one
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip --upgrade
# -m pip: in a path with spaces pip's own script does not start
.venv/bin/python -m pip install --no-input --disable-pip-version-check "${pip_arguments[@]}"
for file in "${files[@]}"; do
    checksum=$(cksum <"$file")
    echo "$checksum" >"$(stamp "$file")"
done
echo "set-up: done"
