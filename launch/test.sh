#!/usr/bin/env bash
# Sets up, then runs the linters and the tests, all of them even if one fails. Arguments go to
# pytest:
#     bash launch/test.sh -k launch

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# check TITLE COMMAND ...: run the command and note its title if it fails
check() {
    local title=$1
    shift
    echo "== $title"
    "$@" || failed+=("$title")
}

bash launch/setup.sh --tests

failed=()
# as modules: in a path with spaces Python's console scripts do not start; shellcheck is a program
check "ruff check" .venv/bin/python -m ruff check .
check "ruff format" .venv/bin/python -m ruff format --check .
check "shellcheck" .venv/bin/shellcheck launch/*.sh tests/launch/*.sh .ci/run
# two workers, each with a thread of its own, share two cores without waiting for each other; files
# stay together for their fixtures, in the order that tests/conftest.py gives
export OMP_NUM_THREADS=1
check "pytest" .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
if [ "${#failed[@]}" -gt 0 ]; then
    echo "error: not in order:$(printf ' %s;' "${failed[@]}") see above" >&2
    exit 1
fi
