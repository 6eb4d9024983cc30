#!/usr/bin/env bash
# Writes the masks of a trained network, with and without CRF, to OUTPUT_DIR/EXP/SAVE_ID, and
# beside them what made them: config.yaml, dataset.yaml, environment.yaml (command, commit, versions),
# diff.patch and results.json. Set the values here or before the command:
#     EXP=baselines RUN_ID=v01 SNAPSHOT=e020Xs0.928 bash ./launch/infer_val.sh
# --skip-existing goes on after an interruption. EXTRA_ARGS (quotes in it keep spaces and
# backslashes), then further arguments go to infer_val.py. Relative paths start at the repository's
# root.

EXP=${EXP:-}                                # to be set: as in training
RUN_ID=${RUN_ID:-}                          # to be set: as in training
SNAPSHOT=${SNAPSHOT:-}                      # to be set: as e020Xs0.928, or best
DATASET=${DATASET:-}                        # default: that of the snapshot
CONFIG=${CONFIG:-}                          # default: that of the snapshot, as in training
FILELIST=${FILELIST:-val}                   # the images: train, val, val_train or a list's file
DATA_ROOT=${DATA_ROOT:-}                    # where the list's paths start; default: the data set's
OUTPUT_DIR=${OUTPUT_DIR:-results}
SAVE_ID=${SAVE_ID:-$RUN_ID}
SNAPSHOT_DIR=${SNAPSHOT_DIR:-}              # default: snapshots
LOGDIR=${LOGDIR:-}                          # default: logs
EXTRA_ARGS=${EXTRA_ARGS:-}                  # as "--set TEST.CRF False"
NPROC=${NPROC:-}                            # processes that share the images, one a GPU; empty: one
DETACH=${DETACH:-0}                         # 1: in the background

source "$(dirname -- "${BASH_SOURCE[0]}")/infer_body.sh"

run_inference start "${python_command[@]}"
