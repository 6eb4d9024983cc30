#!/usr/bin/env bash
# Prints the IoU of the masks that infer_val.sh has written, without CRF and, where there is a folder
# crf/, with it. Set the values here or before the command:
#     SAVE_DIR=results/baselines/v01 bash ./launch/eval_seg.sh
#     SAVE_DIR=results/images/photos GROUND_TRUTH=truth bash ./launch/eval_seg.sh
# REPORT, JSON and TENSORBOARD keep the numbers of both, as a page, a file and scalars. EXTRA_ARGS
# (quotes in it keep spaces and backslashes), then further arguments go to eval_seg.py. Relative
# paths start at the repository's root.

SAVE_DIR=${SAVE_DIR:-}                      # to be set: the folder with the masks
FILELIST=${FILELIST:-}                      # train, val, val_train or a file; default: the masks'
GROUND_TRUTH=${GROUND_TRUTH:-}              # in place of a list: a folder with ID.png
DATA_ROOT=${DATA_ROOT:-}                    # where the list's paths start; default: the data set's
DATASET=${DATASET:-}                        # default: that of the masks
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
    [ -z "$FILELIST" ] || require_filelist
else
    [ -z "$FILELIST" ] || fail "FILELIST and GROUND_TRUTH are both set; unset one of them"
    [ -d "$GROUND_TRUTH" ] ||
        fail "GROUND_TRUTH: there is no folder $GROUND_TRUTH (relative paths start at $ROOT)"
    DATA_ROOT="" # a list's
fi
choose_python

refused_options=("--data=set DATA_ROOT" "--dataset=set DATASET" "--filelist=set FILELIST"
    "--ground-truth=set GROUND_TRUTH" "--masks=set SAVE_DIR" "--report=set REPORT"
    "--json=set JSON" "--tensorboard=set TENSORBOARD")
python_command=("$PYTHON" eval_seg.py --masks "$SAVE_DIR")
# without these, they are what lies beside the masks
[ -z "$DATASET" ] || python_command+=(--dataset "$DATASET")
[ -z "$DATA_ROOT" ] || python_command+=(--data "$DATA_ROOT")
[ -z "$FILELIST" ] || python_command+=(--filelist "$FILELIST")
[ -z "$GROUND_TRUTH" ] || python_command+=(--ground-truth "$GROUND_TRUTH")
[ -z "$REPORT" ] || python_command+=(--report "$REPORT")
[ -z "$JSON" ] || python_command+=(--json "$JSON")
[ -z "$TENSORBOARD" ] || python_command+=(--tensorboard "$TENSORBOARD")
add_further_arguments "$@"

# the log's folder carries its name
[ -n "$DATASET" ] || [ ! -f "$SAVE_DIR/dataset.yaml" ] || DATASET=$SAVE_DIR/dataset.yaml
prints_result=1
run_logged start "${python_command[@]}"
