#!/usr/bin/env bash
# Prints the IoU of the masks that infer_val.sh has written, without CRF and, where there is a folder
# crf/, with it. Set the values here or before the command:
#     SAVE_DIR=results/baselines/v01 bash ./launch/eval_seg.sh
#     SAVE_DIR=results/images/photos GROUND_TRUTH=photos/masks bash ./launch/eval_seg.sh
# REPORT, JSON and TENSORBOARD keep the numbers of both, as a page, a file and scalars. EXTRA_ARGS
# (quotes in it keep spaces and backslashes), then further arguments go to eval_seg.py. Relative
# paths start at the repository's root.

SAVE_DIR=${SAVE_DIR:-}                      # to be set: the folder with the masks
FILELIST=${FILELIST:-}                      # the images and their ground truth; data/val_voc.txt
GROUND_TRUTH=${GROUND_TRUTH:-}              # in place of a list: a folder with ID.png
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
if [ -z "$GROUND_TRUTH" ]; then
    FILELIST=${FILELIST:-data/val_voc.txt}
    require_filelist
    ground_truth=(--data "$DATA_ROOT" --filelist "$FILELIST")
else
    [ -z "$FILELIST" ] || fail "FILELIST and GROUND_TRUTH are both set; unset one of them"
    [ -d "$GROUND_TRUTH" ] ||
        fail "GROUND_TRUTH: there is no folder $GROUND_TRUTH (relative paths start at $ROOT)"
    ground_truth=(--ground-truth "$GROUND_TRUTH")
fi
choose_python

refused_options=("--data=set DATA_ROOT" "--dataset=set DATASET" "--filelist=set FILELIST"
    "--ground-truth=set GROUND_TRUTH" "--masks=set SAVE_DIR" "--report=set REPORT"
    "--json=set JSON" "--tensorboard=set TENSORBOARD")
python_command=("$PYTHON" eval_seg.py --dataset "$DATASET" "${ground_truth[@]}"
    --masks "$SAVE_DIR")
[ -z "$REPORT" ] || python_command+=(--report "$REPORT")
[ -z "$JSON" ] || python_command+=(--json "$JSON")
[ -z "$TENSORBOARD" ] || python_command+=(--tensorboard "$TENSORBOARD")
add_further_arguments "$@"

prints_result=1
run_logged start "${python_command[@]}"
