#!/usr/bin/env bash
# Writes masks of the training images as ground truth for a second, fully supervised stage: they
# keep to the classes that an image is known to have, and pixels below MIN_CONFIDENCE are 255. Beside
# them, in OUTPUT_DIR/EXP/SAVE_ID, go lists of lines `IMAGE MASK`: pseudo_labels.txt and, with CRF,
# pseudo_labels_crf.txt (tables with the header `image,mask` where a path has a space). Set the
# values here or before the command:
#     EXP=baselines RUN_ID=v01 SNAPSHOT=e020Xs0.928 bash ./launch/pseudo_labels.sh
# --skip-existing goes on after an interruption. EXTRA_ARGS (quotes in it keep spaces and
# backslashes), then further arguments go to infer_val.py. Relative paths start at the repository's
# root.

EXP=${EXP:-}                                # to be set: as in training
RUN_ID=${RUN_ID:-}                          # to be set: as in training
SNAPSHOT=${SNAPSHOT:-}                      # to be set: as e020Xs0.928, or best
MIN_CONFIDENCE=${MIN_CONFIDENCE:-0}         # from 0 (each pixel has a class) to 1, as 0.7
DATASET=${DATASET:-}                        # default: that of the snapshot
CONFIG=${CONFIG:-}                          # default: that of the snapshot, as in training
FILELIST=${FILELIST:-train}                 # the images: train, val, val_train or a list's file
DATA_ROOT=${DATA_ROOT:-}                    # where the list's paths start; default: the data set's
OUTPUT_DIR=${OUTPUT_DIR:-results}
SAVE_ID=${SAVE_ID:-${RUN_ID}_pseudo}
SNAPSHOT_DIR=${SNAPSHOT_DIR:-}              # default: snapshots
LOGDIR=${LOGDIR:-}                          # default: logs
EXTRA_ARGS=${EXTRA_ARGS:-}                  # as "--set TEST.CRF False"
NPROC=${NPROC:-}                            # processes that share the images, one a GPU; empty: one
DETACH=${DETACH:-0}                         # 1: in the background

source "$(dirname -- "${BASH_SOURCE[0]}")/infer_body.sh"

say "TEST.USE_GT_LABELS is True here: masks keep to the classes that an image is known to have"
# last, so that nothing before takes it back
python_command+=(--set TEST.USE_GT_LABELS True TEST.MIN_CONFIDENCE "$MIN_CONFIDENCE")
infer_then core.inference.pseudo_label_list pseudo_labels txt
