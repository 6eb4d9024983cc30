# shellcheck shell=bash
# What the launch scripts share; sourced, not run. It goes to the repository's root: relative
# paths, those given by the user too, start there.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$ROOT"
# output is piped into a log; Python would hold it back in blocks
export PYTHONUNBUFFERED=1

fail() {
    echo "error: $*" >&2
    exit 2
}

# demand NAME=EXAMPLE ...: end with one line that names every variable among them that is empty
demand() {
    local example name names=() examples=()
    for example in "$@"; do
        name=${example%%=*}
        if [ -z "${!name:-}" ]; then
            names+=("$name")
            examples+=("$example")
        fi
    done
    if [ "${#names[@]}" -gt 0 ]; then
        fail "not set: ${names[*]}. Set it at the top of $0 or before the command, as in:" \
            "${examples[*]} bash $(printf '%q' "$0")"
    fi
}

require_config() {
    [ -f "$CONFIG" ] || fail "CONFIG: there is no file $CONFIG (relative paths start at $ROOT)"
}

require_filelist() {
    [ -f "$FILELIST" ] ||
        fail "FILELIST: there is no file $FILELIST (relative paths start at $ROOT); $(data_hint)"
}

data_hint() {
    echo "README.md says how to get the data; its lists are made by" \
        "\`python -m datasets.prepare --root DIR\`"
}

# Set PYTHON: the one given, else .venv's, else the active environment's.
choose_python() {
    local remedy="run \`bash launch/setup.sh\`"
    if [ -n "${PYTHON:-}" ]; then
        remedy="install requirements.txt there, or unset PYTHON and $remedy"
    elif [ -x .venv/bin/python ]; then
        PYTHON=$ROOT/.venv/bin/python
    else
        PYTHON=python3
    fi
    command -v -- "$PYTHON" >/dev/null || fail "there is no Python at $PYTHON: $remedy"
    # looked for, not imported: that takes seconds
    "$PYTHON" -c 'import sys; from importlib.util import find_spec
sys.exit(not all(find_spec(name) for name in sys.argv[1:]))' torch torchvision pydensecrf ||
        fail "$PYTHON lacks packages of requirements.txt: $remedy"
}

# Append the shell words of EXTRA_ARGS to the array python_command. xargs knows quotes but, unlike
# eval, expands nothing: `--set TEST.SCALES "[1, 0.5]"` stays what it is.
append_extra_args() {
    local words word
    [[ $EXTRA_ARGS =~ [^[:space:]] ]] || return 0
    words=$(printf '%s' "$EXTRA_ARGS" | xargs printf '=%s\n' 2>/dev/null) ||
        fail "EXTRA_ARGS cannot be split into words, is a quote left open? $EXTRA_ARGS"
    while IFS= read -r word; do
        # the = in front keeps an empty last word from being lost with the last newline
        python_command+=("${word#=}")
    done <<<"$words"
}

# Print the time and the command line, and become the command.
start() {
    printf '%s ' "$(date '+%Y-%m-%d %H:%M:%S')"
    printf ' %q' "$@"
    printf '\n'
    exec "$@"
}

# run_logged COMMAND ...: run it in a subshell, show its output and append it to the run's log,
# logs/DATASET/EXP/RUN_ID.log; end with its exit status. DETACH=1 leaves it in the background.
run_logged() {
    local log=logs/$DATASET/$EXP/$RUN_ID.log status=0
    mkdir -p -- "$(dirname -- "$log")"
    case ${DETACH:-0} in
        0)
            # tee -i: at Ctrl-C the command still has its last words
            "$@" 2>&1 | tee -i -a -- "$log" || status=${PIPESTATUS[0]}
            return "$status"
            ;;
        1)
            set -m # a process group of its own, out of reach of the terminal's Ctrl-C
            (
                trap '' HUP
                exec </dev/null >>"$log" 2>&1
                "$@"
            ) &
            set +m
            echo "running in the background as process $! (stop it with: kill -- -$!)"
            echo "its output goes to $ROOT/$log"
            ;;
        *) fail "DETACH must be 0 or 1, found $DETACH" ;;
    esac
}
