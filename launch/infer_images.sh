#!/usr/bin/env bash
# Segments your own images: masks, the same with CRF, both drawn over the image, and a page of them.
#     bash ./launch/infer_images.sh FOLDER
# Instead of a folder, one image or a list of images will do. The network is the authors', which
# `bash launch/get_weights.sh snapshot` brings, unless these say otherwise, here or before the
# command:
#     SNAPSHOT=snapshots/birds/main/v01/model_enc_e020Xs0.928.pth bash ./launch/infer_images.sh FOLDER
#     EXP=baselines RUN_ID=v01 SNAPSHOT=best bash ./launch/infer_images.sh FOLDER
# What the network is and knows, config.yaml and dataset.yaml beside its snapshot say.
# EXTRA_ARGS (quotes in it keep spaces and backslashes), then the arguments after FOLDER go to
# infer_val.py. Relative paths start at the repository's root.

SNAPSHOT=${SNAPSHOT:-}                      # a snapshot's file, or with EXP and RUN_ID its suffix
EXP=${EXP:-}                                # as in training
RUN_ID=${RUN_ID:-}                          # as in training
SNAPSHOT_DIR=${SNAPSHOT_DIR:-}              # where runs are; default: snapshots
DATASET=${DATASET:-}                        # default: that of the snapshot
CONFIG=${CONFIG:-}                          # default: that of the snapshot, as in training
LABELS=${LABELS:-}                          # a file that says what is in the images, if you know
WINDOW=${WINDOW:-}                          # of views: fit (default), their own size; or pad: PAD_SIZE
OVERSIZE=${OVERSIZE:-}                      # with WINDOW=pad, images larger than that: shrink or grow
OUTPUT=${OUTPUT:-}                          # default: results/images and the folder's name
EXTRA_ARGS=${EXTRA_ARGS:-}                  # as "--device cpu"
NPROC=${NPROC:-}                            # processes that share the images, one a GPU; empty: one

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

PUBLISHED=snapshots/pascal_voc/published/resnet38/model_enc_e020Xs0.928.pth

# Set snapshot_arguments: the options that name the snapshot.
choose_snapshot() {
    if [ -n "$EXP$RUN_ID" ]; then
        SNAPSHOT=${SNAPSHOT:-best}
        demand EXP=baselines RUN_ID=v01
        snapshot_arguments=(--exp "$EXP" --run "$RUN_ID" --resume "$SNAPSHOT")
        [ -z "$SNAPSHOT_DIR" ] || snapshot_arguments+=(--snapshot-dir "$SNAPSHOT_DIR")
        return
    fi
    [ -n "$SNAPSHOT" ] || [ -f "$PUBLISHED" ] ||
        fail "the published snapshot is not here; \`bash launch/get_weights.sh snapshot\` gets it" \
            "(0.5 GB), or set SNAPSHOT to the file of another"
    [ -n "$SNAPSHOT$CONFIG" ] || [ -f "${PUBLISHED%/*}/config.yaml" ] ||
        fail "config.yaml is not beside the published snapshot;" \
            "\`bash launch/get_weights.sh snapshot\` writes it"
    SNAPSHOT=${SNAPSHOT:-$PUBLISHED}
    [ -f "$SNAPSHOT" ] || fail "SNAPSHOT: there is no file $SNAPSHOT (relative paths start at" \
        "$ROOT; the suffix of a snapshot takes EXP and RUN_ID)"
    snapshot_arguments=(--snapshot "$SNAPSHOT")
}

IMAGES=${1:-}
expand_home IMAGES
[ -n "$IMAGES" ] || fail "no images are named; as in: bash $(printf '%q' "$0") FOLDER"
[ -e "$IMAGES" ] || fail "there is no $IMAGES (relative paths start at $ROOT)"
shift
if [ -d "$IMAGES" ]; then
    name=$(basename -- "$(CDPATH='' cd -- "$IMAGES" && pwd -P)")
else
    name=$(basename -- "${IMAGES%.*}")
fi
OUTPUT=${OUTPUT:-results/images/$name}
[ -z "$CONFIG" ] || require_config
[ -z "$LABELS" ] || [ -e "$LABELS" ] ||
    fail "LABELS: there is no file $LABELS (relative paths start at $ROOT)"
[ -n "$WINDOW" ] || case $OVERSIZE in grow) WINDOW=pad ;; *) WINDOW=fit ;; esac
OVERSIZE=${OVERSIZE:-shrink}
[[ $WINDOW == fit || $WINDOW == pad ]] || fail "WINDOW must be fit or pad, found $WINDOW"
[[ $OVERSIZE == shrink || $OVERSIZE == grow ]] ||
    fail "OVERSIZE must be shrink or grow, found $OVERSIZE"
[[ $WINDOW == pad || $OVERSIZE == shrink ]] ||
    fail "OVERSIZE=grow takes WINDOW=pad; with WINDOW=fit, a larger TEST.PAD_SIZE allows for more pixels"
require_number NPROC
choose_snapshot
set_up_python

refused_options=("${run_options[@]}" "--resume=set SNAPSHOT" "--snapshot=set SNAPSHOT"
    "--infer-list=name it first" "--labels=set LABELS" "--mask-output-dir=set OUTPUT")
NNODES="" # images are shared by the processes of one machine
set_command infer_val.py --page "${snapshot_arguments[@]}" --infer-list "$IMAGES" \
    --mask-output-dir "$OUTPUT"
[ -z "$DATASET" ] || python_command+=(--dataset "$DATASET")
[ -z "$CONFIG" ] || python_command+=(--cfg "$CONFIG")
[ -z "$LABELS" ] || python_command+=(--labels "$LABELS")
# some of the configurations take labels from masks, which own images do not have; a CRF over all
# classes takes gigabytes for an image of a camera
python_command+=(--set TEST.WINDOW "$WINDOW" TEST.OVERSIZE "$OVERSIZE" TEST.AMP auto
    TEST.USE_GT_LABELS False TEST.CRF_PRESENT_ONLY True)
add_further_arguments "$@"

start "${python_command[@]}"
