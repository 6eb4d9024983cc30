#!/usr/bin/env bash
# Prints the IoU of the masks that infer_val.sh has written, without CRF and, where there is a folder
# crf/, with it. Set the values here or before the command:
#     SAVE_DIR=results/baselines/v01 bash ./launch/eval_seg.sh
# REPORT, JSON and TENSORBOARD keep the numbers of both, as a page, a file and scalars. EXTRA_ARGS
# (quotes in it keep spaces and backslashes), then further arguments go to eval_seg.py. Relative
# paths start at the repository's root.

SAVE_DIR=${SAVE_DIR:-}                      # to be set: the folder with the masks
FILELIST=${FILELIST:-data/val_voc.txt}      # the images and their ground truth
DATA_ROOT=${DATA_ROOT:-data}                # where the list's paths start
DATASET=${DATASET:-pascal_voc}
EXP=${EXP:-$(basename -- "$(dirname -- "$SAVE_DIR")")} # EXP and RUN_ID name the log
RUN_ID=${RUN_ID:-$(basename -- "$SAVE_DIR")}
LOGDIR=${LOGDIR:-}                          # default: logs
REPORT=${REPORT:-}                          # a folder: index.html, a page to look at
JSON=${JSON:-}                              # a file
TENSORBOARD=${TENSORBOARD:-}                # a folder, as logs/pascal_voc/baselines/v01
EXTRA_ARGS=${EXTRA_ARGS:-}                  # as "--allow-missing --log-scores FILE"
DETACH=${DETACH:-0}                         # 1: in the background

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

demand SAVE_DIR=results/baselines/v01
[ -d "$SAVE_DIR" ] || fail "SAVE_DIR: there is no folder $SAVE_DIR (relative paths start at $ROOT);" \
    "masks are made by \`bash launch/infer_val.sh\`"
require_filelist
choose_python

refused_options=("--data=set DATA_ROOT" "--dataset=set DATASET" "--filelist=set FILELIST"
    "--masks=set SAVE_DIR" "--report=set REPORT" "--json=set JSON" "--tensorboard=set TENSORBOARD")
python_command=("$PYTHON" eval_seg.py --dataset "$DATASET" --data "$DATA_ROOT"
    --filelist "$FILELIST" --masks "$SAVE_DIR")
[ -z "$REPORT" ] || python_command+=(--report "$REPORT")
[ -z "$JSON" ] || python_command+=(--json "$JSON")
[ -z "$TENSORBOARD" ] || python_command+=(--tensorboard "$TENSORBOARD")
add_further_arguments "$@"

prints_result=1
run_logged start "${python_command[@]}"
