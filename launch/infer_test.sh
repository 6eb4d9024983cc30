#!/usr/bin/env bash
# Segments VOC's test images, which have no masks, and packs the results as VOC's evaluation server
# takes them: comp6_test_cls.tgz without and comp6_test_cls_crf.tgz with CRF, both in
# OUTPUT_DIR/EXP/SAVE_ID. Set the values here or before the command:
#     EXP=baselines RUN_ID=v01 SNAPSHOT=e020Xs0.928 bash ./launch/infer_test.sh
# --skip-existing goes on after an interruption. EXTRA_ARGS (quotes in it keep spaces and
# backslashes), then further arguments go to infer_val.py. Relative paths start at the repository's
# root.

EXP=${EXP:-}                                # to be set: as in training
RUN_ID=${RUN_ID:-}                          # to be set: as in training
SNAPSHOT=${SNAPSHOT:-}                      # to be set: as e020Xs0.928, or best
DATASET=${DATASET:-}                        # default: that of the snapshot
CONFIG=${CONFIG:-}                          # default: that of the snapshot, as in training
FILELIST=${FILELIST:-data/test.txt}         # the images
DATA_ROOT=${DATA_ROOT:-}                    # where the list's paths start; default: the data set's
OUTPUT_DIR=${OUTPUT_DIR:-results}
SAVE_ID=${SAVE_ID:-${RUN_ID}_test}
SNAPSHOT_DIR=${SNAPSHOT_DIR:-}              # default: snapshots
LOGDIR=${LOGDIR:-}                          # default: logs
EXTRA_ARGS=${EXTRA_ARGS:-}                  # as "--set TEST.CRF False"
NPROC=${NPROC:-}                            # processes that share the images, one a GPU; empty: one
DETACH=${DETACH:-0}                         # 1: in the background

source "$(dirname -- "${BASH_SOURCE[0]}")/infer_body.sh"

say "TEST.USE_GT_LABELS is False here: test images have no masks to take labels from;" \
    "TEST.MIN_CONFIDENCE is 0: the server wants a class at every pixel"
# last, so that nothing before takes it back
python_command+=(--set TEST.USE_GT_LABELS False TEST.MIN_CONFIDENCE 0)
infer_then core.inference.voc_submission comp6_test_cls tgz
