# shellcheck shell=bash
# The body of the run scripts, which set its variables and source it: starts train.py, with
# torchrun if NPROC or NNODES is set.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

demand EXP=baselines RUN_ID=v01
require_config
require_number NPROC
require_number NNODES
choose_python

refused_options=("${run_options[@]}" "--resume=set RESUME")
set_command train.py --dataset "$DATASET" --cfg "$CONFIG" --exp "$EXP" --run "$RUN_ID"
[ -z "$SNAPSHOT_DIR" ] || python_command+=(--snapshot-dir "$SNAPSHOT_DIR")
[ -z "$LOGDIR" ] || python_command+=(--logdir "$LOGDIR")
[ -z "$RESUME" ] || python_command+=(--resume "$RESUME")
if [ -n "$MODEL_SETTINGS" ]; then
    read -ra settings <<<"$MODEL_SETTINGS"
    python_command+=(--set "${settings[@]}")
fi
add_further_arguments "$@"

run_logged start "${python_command[@]}"
