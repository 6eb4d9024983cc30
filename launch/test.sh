#!/usr/bin/env bash
# Sets up, then runs the tests; the linters are among them (tests/test_lint.py). Arguments go to
# pytest:
#     bash launch/test.sh -k launch

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

bash launch/setup.sh --tests
exec .venv/bin/python -m pytest "$@"
