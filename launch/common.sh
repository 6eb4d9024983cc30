# shellcheck shell=bash
# What the launch scripts share; sourced, not run. It goes to the repository's root: relative
# paths, those given by the user too, start there.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$ROOT"
# output is piped into a log; Python would hold it back in blocks
export PYTHONUNBUFFERED=1

# A closed output would end a script at its first word, perhaps after hours of work. (bash takes
# copying a closed descriptor onto itself for a success.)
{ : 9>&1; } 2>/dev/null || exec >/dev/null

fail() {
    echo "error: $*" >&2 || true
    exit 2
}

# say TEXT ...: print a line; one that cannot be shown, or that nobody reads, ends nothing
say() {
    (
        trap '' PIPE
        echo "$*" 2>/dev/null || true
    )
}

# expand_home NAME ...: a ~ or ~USER that begins a variable's value, in quotes that kept it from the
# shell, becomes the home that it stands for
expand_home() {
    local name home
    for name in "$@"; do
        [[ ${!name:-} =~ ^~([A-Za-z_][A-Za-z0-9._-]*)?(/|$) ]] || continue
        home=~
        # nothing but a name goes to eval
        [ -z "${BASH_REMATCH[1]}" ] || eval "home=~${BASH_REMATCH[1]}"
        [[ $home == /* ]] || fail "$name=${!name}: there is no home of ${home}; give a path without ~"
        printf -v "$name" '%s' "$home${!name#"~${BASH_REMATCH[1]}"}"
    done
}
expand_home CONFIG FILELIST DATA_ROOT OUTPUT_DIR OUTPUT SAVE_DIR SNAPSHOT SNAPSHOT_DIR LOGDIR \
    GROUND_TRUTH LABELS REPORT JSON TENSORBOARD VOC SBD SBD_AUG VOC_TEST COCO COCO_MASKS \
    PYTHON

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

# train, val and val_train are the data set's own lists; Python knows where those are
require_filelist() {
    [[ $FILELIST =~ ^(train|val|val_train)$ || -f $FILELIST ]] ||
        fail "FILELIST: there is no file $FILELIST (relative paths start at $ROOT); $(data_hint)"
}

data_hint() {
    if [ "${DATASET:-}" = coco ]; then
        echo "MS COCO, with its lists, is had by \`bash launch/get_coco.sh\`"
        return
    fi
    echo "VOC 2012 and SBD, with their lists, are had by \`bash launch/get_data.sh\`"
}

# Set PYTHON: the one given, else .venv's, else the active environment's.
choose_python() {
    local lacks remedy="run \`bash launch/setup.sh\`"
    if [ -n "${PYTHON:-}" ]; then
        remedy="install requirements.txt there, or unset PYTHON and $remedy"
    elif [ -x .venv/bin/python ]; then
        PYTHON=$ROOT/.venv/bin/python
    else
        PYTHON=python3
    fi
    command -v -- "$PYTHON" >/dev/null || fail "there is no Python at $PYTHON: $remedy"
    # looked for, not imported: that takes seconds; pydensecrf, only masks with CRF need, and
    # infer_val.py says so
    lacks=$("$PYTHON" -c 'import sys; from importlib.util import find_spec
lacks = [] if sys.version_info >= (3, 10) else ["Python 3.10 or newer"]
print(*lacks, *(name for name in sys.argv[1:] if not find_spec(name)), sep=", ")' \
        torch torchvision numpy PIL scipy sklearn tensorboard tqdm yaml jinja2) ||
        fail "$PYTHON does not run, or is no Python 3: $remedy"
    [ -z "$lacks" ] || fail "$PYTHON lacks $lacks: $remedy"
}

# Set PYTHON as choose_python does; where none was named or set up, set up .venv first.
set_up_python() {
    if [ -z "${PYTHON:-}" ] && ! (choose_python) 2>/dev/null; then
        bash launch/setup.sh
    fi
    choose_python
}

# require_number NAME: end with a line unless the variable is empty or a number from 1
require_number() {
    [ -z "${!1}" ] || [[ ${!1} =~ ^[1-9][0-9]*$ ]] || fail "$1 must be a number from 1, found ${!1}"
}

# set_command SCRIPT.py ARGUMENT ...: put it into the array python_command, with torchrun in front if
# NPROC (processes on this machine) or NNODES (machines) is set
set_command() {
    python_command=("$PYTHON")
    [ -z "$NPROC$NNODES" ] || add_torchrun
    python_command+=("$@")
}

add_torchrun() {
    local processes=${NPROC:-1} cores
    # processes that share a machine's cores get equal parts of them
    cores=$(getconf _NPROCESSORS_ONLN)
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(((cores + processes - 1) / processes))}
    python_command+=(-m core.torchrun --nproc-per-node "$processes")
    if [ "${NNODES:-1}" -gt 1 ]; then
        demand NODE_RANK=0 MASTER_ADDR=host1
        python_command+=(--nnodes "$NNODES" --node-rank "$NODE_RANK" --master-addr "$MASTER_ADDR"
            --master-port "${MASTER_PORT:-29500}")
    else
        python_command+=(--standalone)
    fi
}

# --OPTION=REMEDY: what a script that calls add_further_arguments refuses
refused_options=()
# of them, what train.py and infer_val.py share
# shellcheck disable=SC2034 # for the bodies that source this
run_options=("--dataset=set DATASET" "--cfg=set CONFIG" "--exp=set EXP" "--run=set RUN_ID"
    "--run-id=set RUN_ID")

# add_further_arguments ARGUMENT ...: append the shell words of EXTRA_ARGS, then the arguments, to
# the array python_command. xargs knows quotes but, unlike eval, expands nothing:
# `--set TEST.SCALES "[1, 0.5]"` stays what it is.
add_further_arguments() {
    local words word
    if [[ $EXTRA_ARGS =~ [^[:space:]] ]]; then
        command -v xargs >/dev/null ||
            fail "EXTRA_ARGS is split into words by xargs, which is not installed; the package" \
                "findutils has it"
        words=$(printf '%s' "$EXTRA_ARGS" | xargs printf '=%s\n' 2>/dev/null) ||
            fail "EXTRA_ARGS cannot be split into words, is a quote left open? $EXTRA_ARGS"
        while IFS= read -r word; do
            # the = in front keeps an empty last word from being lost with the last newline
            add_argument "${word#=}"
        done <<<"$words"
    fi
    for word in "$@"; do
        add_argument "$word"
    done
}

# Append one argument to python_command. Options that a variable gives are refused: the log's name
# and the folders of results, made from the variables, would tell of something else.
add_argument() {
    local refused name=${1%%=*}
    for refused in "${refused_options[@]}"; do
        [ "$name" != "${refused%%=*}" ] ||
            fail "$name is not for further arguments: ${refused#*=}"
    done
    python_command+=("$1")
}

# Print the time and the command line, and become the command.
start() {
    { printf '%s ' "$(date '+%Y-%m-%d %H:%M:%S')" && printf ' %q' "$@" && printf '\n'; } || true
    exec "$@"
}

prints_result=0 # 1: looking at its output is what a script is for

# dataset_name: the name that the run's folders carry, where DATASET is empty too
dataset_name() {
    local runs
    if [[ $DATASET == */* || $DATASET == *.yaml || -d $DATASET ]]; then
        "$PYTHON" -c 'import sys; from datasets.dataset_file import get_dataset_info
from utils.errors import run_command
run_command(lambda: print(get_dataset_info(sys.argv[1]).name))' "$DATASET"
    elif [ -n "$DATASET" ]; then
        echo "$DATASET"
    else
        runs=("${SNAPSHOT_DIR:-snapshots}"/*/"$EXP/$RUN_ID")
        [ -d "${runs[0]}" ] || runs=("pascal_voc/$EXP/$RUN_ID")
        basename -- "${runs[0]%"/$EXP/$RUN_ID"}"
    fi
}

# run_logged COMMAND ...: run it in a subshell, show its output and append it to the run's log,
# LOGDIR/`dataset_name`/EXP/RUN_ID.log; end with its exit status. DETACH=1 leaves it in the
# background.
run_logged() {
    local log status=0
    log=$(dataset_name) || exit
    log=${LOGDIR:-logs}/$log/$EXP/$RUN_ID.log
    [[ $log == /* ]] || log=$ROOT/$log
    [[ $DETACH == [01] ]] || fail "DETACH must be 0 or 1, found $DETACH"
    { mkdir -p -- "$(dirname -- "$log")" && : >>"$log"; } 2>/dev/null ||
        fail "cannot write the log $log; make it writable, or set LOGDIR to another folder for logs"
    case $DETACH in
        0)
            # tee -i: at Ctrl-C the command still has its last words
            "$@" 2>&1 | show_and_keep "$log" || status=${PIPESTATUS[0]}
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
            say "running in the background as process $! (stop it with: kill -- -$!)"
            say "its output goes to $log"
            ;;
    esac
}

# show_and_keep LOG: show the input and append it to LOG, which goes on where nobody looks any more,
# as after `| head`, unless the output is the result
show_and_keep() {
    [ "$prints_result" = 1 ] || trap '' PIPE
    tee -i -a -- "$1"
}
