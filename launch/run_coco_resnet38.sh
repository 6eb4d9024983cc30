#!/usr/bin/env bash
# Trains the segmentation network with the WideResNet38 backbone on MS COCO 2014. Set the values here or
# before the command:
#     EXP=baselines RUN_ID=v01 bash ./launch/run_coco_resnet38.sh
# EXTRA_ARGS (quotes in it keep spaces and backslashes), then further arguments go to train.py.
# Relative paths start at the repository's root.

EXP=${EXP:-}                                # to be set: a name for the experiment
RUN_ID=${RUN_ID:-}                          # to be set: a name for this run of it
DATASET=${DATASET:-coco}
CONFIG=${CONFIG:-configs/coco_resnet38.yaml}
SNAPSHOT_DIR=${SNAPSHOT_DIR:-}              # default: snapshots
LOGDIR=${LOGDIR:-}                          # default: logs
RESUME=${RESUME:-}                          # to go on from: last, previous, auto, best, e010Xs0.912
EXTRA_ARGS=${EXTRA_ARGS:-}                  # more arguments, as "--set NET.LR 0.0005"
NPROC=${NPROC:-}                            # processes, one a GPU, by torchrun; empty: one for all
NNODES=${NNODES:-}                          # machines; each sets NODE_RANK and MASTER_ADDR too
DETACH=${DETACH:-0}                         # 1: in the background
MODEL_SETTINGS=""                           # nothing: CONFIG says it all

source "$(dirname -- "${BASH_SOURCE[0]}")/train_body.sh"
