#!/usr/bin/env bash
# Writes the masks of a trained network, with and without CRF, to OUTPUT_DIR/EXP/SAVE_ID. Set the
# values here or before the command:
#     EXP=baselines RUN_ID=v01 SNAPSHOT=e020Xs0.928 bash ./launch/infer_val.sh
# Further arguments go to infer_val.py. Relative paths start at the repository's root.

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

# Keep beside the masks what made them: the command, the commit, and the changes since.
record() {
    mkdir -p -- "$SAVE_DIR"
    printf '%q ' "${python_command[@]}" >"$SAVE_DIR/command.txt"
    printf '\n' >>"$SAVE_DIR/command.txt"
    # a plain copy of the code may lie inside some other repository
    if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$ROOT" ] &&
        git rev-parse --verify HEAD >"$SAVE_DIR/commit.txt" 2>/dev/null; then
        git diff --no-color --no-ext-diff --binary HEAD >"$SAVE_DIR/diff.patch"
    else
        echo "unknown: not a git checkout" >"$SAVE_DIR/commit.txt"
        rm -f -- "$SAVE_DIR/diff.patch"
    fi
}

demand EXP=baselines RUN_ID=v01 SNAPSHOT=e020Xs0.928
require_config
require_filelist
choose_python

SAVE_DIR=$OUTPUT_DIR/$EXP/$SAVE_ID
python_command=("$PYTHON" infer_val.py --dataset "$DATASET" --cfg "$CONFIG" --exp "$EXP"
    --run "$RUN_ID" --resume "$SNAPSHOT" --infer-list "$FILELIST" --mask-output-dir "$SAVE_DIR")
append_extra_args
python_command+=("$@")

record
run_logged start "${python_command[@]}"
echo "SAVE_DIR=$SAVE_DIR"
