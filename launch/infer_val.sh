#!/usr/bin/env bash
# Writes the masks of a trained network, with and without CRF, to OUTPUT_DIR/EXP/SAVE_ID, and
# beside them what made them: config.yaml, environment.yaml (command, commit, versions) and
# diff.patch. Set the values here or before the command:
#     EXP=baselines RUN_ID=v01 SNAPSHOT=e020Xs0.928 bash ./launch/infer_val.sh
# EXTRA_ARGS (quotes in it keep spaces and backslashes), then further arguments go to infer_val.py.
# Relative paths start at the repository's root.

EXP=${EXP:-}                                # to be set: as in training
RUN_ID=${RUN_ID:-}                          # to be set: as in training
SNAPSHOT=${SNAPSHOT:-}                      # to be set: as e020Xs0.928, or best
DATASET=${DATASET:-pascal_voc}
CONFIG=${CONFIG:-configs/voc_resnet38.yaml} # as in training
FILELIST=${FILELIST:-data/val_voc.txt}      # the images
OUTPUT_DIR=${OUTPUT_DIR:-results}
SAVE_ID=${SAVE_ID:-$RUN_ID}
EXTRA_ARGS=${EXTRA_ARGS:-}                  # for the baseline: "--set NET.MODEL bsl"
DETACH=${DETACH:-0}                         # 1: in the background

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

demand EXP=baselines RUN_ID=v01 SNAPSHOT=e020Xs0.928
require_config
require_filelist
choose_python

SAVE_DIR=$OUTPUT_DIR/$EXP/$SAVE_ID
refused_options=("--dataset=set DATASET" "--cfg=set CONFIG" "--exp=set EXP" "--run=set RUN_ID"
    "--resume=set SNAPSHOT" "--infer-list=set FILELIST"
    "--mask-output-dir=set OUTPUT_DIR and SAVE_ID")
python_command=("$PYTHON" infer_val.py --dataset "$DATASET" --cfg "$CONFIG" --exp "$EXP"
    --run "$RUN_ID" --resume "$SNAPSHOT" --infer-list "$FILELIST" --mask-output-dir "$SAVE_DIR")
add_further_arguments "$@"

run_logged start "${python_command[@]}"
if [ "$DETACH" = 1 ]; then
    echo "its masks will be in $SAVE_DIR"
else
    echo "SAVE_DIR=$SAVE_DIR"
fi
