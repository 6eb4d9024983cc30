#!/usr/bin/env bash
# From a fresh clone to an IoU table, on the embedded mini data set: sets up, writes and prepares
# the data, trains, infers with CRF, draws a picture, evaluates.
#     bash ./launch/demo.sh
#     MODEL=bsl bash ./launch/demo.sh
# A second demo takes the place of the first. It takes no arguments.

MODEL=${MODEL:-ae} # ae: the segmentation network; bsl: the CAM baseline

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

[ $# -eq 0 ] || fail "the demo takes no arguments, found $*; the other scripts in launch/ do"
case $MODEL in
    ae) EXTRA_ARGS="" ;;
    bsl) EXTRA_ARGS="--set NET.MODEL bsl" ;;
    *) fail "MODEL must be ae or bsl, found $MODEL" ;;
esac
EXP=demo
RUN_ID=mini_$MODEL
DATASET=pascal_voc
DATA_ROOT=data/mini_voc
CONFIG=configs/mini_resnet50.yaml
FILELIST=$DATA_ROOT/val_voc.txt
SNAPSHOT=best
OUTPUT_DIR=results
SAVE_ID=$RUN_ID
SAVE_DIR=$OUTPUT_DIR/$EXP/$SAVE_ID
# these are empty against what a user's shell may hold for other runs
RESUME=""
NPROC=""
NNODES=""
DETACH=0
SNAPSHOT_DIR=""
LOGDIR=""
REPORT=""
JSON=""
TENSORBOARD=""
export EXP RUN_ID DATASET DATA_ROOT CONFIG FILELIST SNAPSHOT OUTPUT_DIR SAVE_ID SAVE_DIR RESUME \
    NPROC NNODES DETACH SNAPSHOT_DIR LOGDIR REPORT JSON TENSORBOARD EXTRA_ARGS

# what later steps write should not fail after minutes
for folder in snapshots logs "$OUTPUT_DIR"; do
    { mkdir -p -- "$folder" && [ -w "$folder" ]; } 2>/dev/null ||
        fail "cannot write to $ROOT/$folder; make it a folder that can be written"
done

times=""
step() {
    local title=$1 begin=$SECONDS
    shift
    printf '\n=== %s\n' "$title"
    "$@"
    times+=$(printf '  %-12s %4d s' "$title" $((SECONDS - begin)))$'\n'
}

step "Set-up" bash launch/setup.sh
export PYTHON=$ROOT/.venv/bin/python
step "Data" "$PYTHON" -m datasets.mini_voc --out "$DATA_ROOT"
step "Preparation" "$PYTHON" -m datasets.prepare --root "$DATA_ROOT"
# on two cores, a process that loads its small images is in the way of the network
step "Training" bash launch/run_voc_resnet50.sh --overwrite --workers 0
step "Inference" bash launch/infer_val.sh
picture=$SAVE_DIR/picture.png
step "Picture" "$PYTHON" -m core.evaluation.figure --data "$DATA_ROOT" --filelist "$FILELIST" \
    --masks "$SAVE_DIR" --out "$picture" --dataset "$DATASET"
step "Evaluation" env EXTRA_ARGS= GROUND_TRUTH= bash launch/eval_seg.sh

# asked of the code itself, so that there is one rule for what is best
snapshot=$("$PYTHON" -c 'import sys; from pathlib import Path
from core.checkpoint import find_snapshot
print(find_snapshot(Path(sys.argv[1]), sys.argv[2]).path)' "snapshots/$DATASET/$EXP/$RUN_ID" "$SNAPSHOT")
events=$ROOT/logs/$DATASET/$EXP/$RUN_ID

cat <<SUMMARY

=== Done
$times
  snapshot     $ROOT/$snapshot
  masks        $ROOT/$SAVE_DIR (with CRF: crf/, drawn: vis/)
  picture      $ROOT/$picture
  TensorBoard  $events
               $(printf '%q ' "$PYTHON" -m tensorboard.main --logdir "$events")
SUMMARY
