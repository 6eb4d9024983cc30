# shellcheck shell=bash
# The body of the run scripts, which set its variables and source it: starts train.py, with
# torchrun if NPROC or NNODES is set.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

require_number() {
    [ -z "${!1}" ] || [[ ${!1} =~ ^[1-9][0-9]*$ ]] || fail "$1 must be a number from 1, found ${!1}"
}

# Append torchrun and its options to python_command.
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

demand EXP=baselines RUN_ID=v01
require_config
require_number NPROC
require_number NNODES
choose_python

refused_options=("--dataset=set DATASET" "--cfg=set CONFIG" "--exp=set EXP" "--run=set RUN_ID"
    "--resume=set RESUME")
python_command=("$PYTHON")
[ -z "$NPROC$NNODES" ] || add_torchrun
python_command+=(train.py --dataset "$DATASET" --cfg "$CONFIG" --exp "$EXP" --run "$RUN_ID")
if [ -n "$RESUME" ]; then
    python_command+=(--resume "$RESUME")
fi
if [ -n "$MODEL_SETTINGS" ]; then
    read -ra settings <<<"$MODEL_SETTINGS"
    python_command+=(--set "${settings[@]}")
fi
add_further_arguments "$@"

run_logged start "${python_command[@]}"
