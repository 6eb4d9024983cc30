#!/usr/bin/env bash
# From a folder of images, and what is in them, to masks and a page: describes the images, trains on
# them, segments all of them, keeping to their known labels, and writes a page of the masks.
#     bash ./launch/train_images.sh FOLDER [LABELS] [ARGUMENT ...]
# FOLDER, searched with its subfolders, is never written to. LABELS is a table, or a folder of
# annotations (docs/data.md); without it, FOLDER has a folder a class, or labels.csv in it or beside
# it. A second run goes on where the first ended. Set the values here or before the command. Further
# arguments go to train.py. Relative paths start at the repository's root.

EXP=${EXP:-images}
RUN_ID=${RUN_ID:-v01}
CONFIG=${CONFIG:-configs/images_resnet50.yaml}
OUTPUT=${OUTPUT:-}                          # default: results/images and the folder's name
VAL_SHARE=${VAL_SHARE:-0.1}                 # of the images, to validate on
SNAPSHOT_DIR=${SNAPSHOT_DIR:-}              # default: snapshots
LOGDIR=${LOGDIR:-}                          # default: logs
EXTRA_ARGS=${EXTRA_ARGS:-}                  # more arguments of train.py, as "--device cpu"
NPROC=${NPROC:-}                            # processes, one a GPU, by torchrun; empty: one for all

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

IMAGES=${1:-}
expand_home IMAGES
[ -n "$IMAGES" ] || fail "no images are named; as in: bash $(printf '%q' "$0") FOLDER labels.csv"
[ -d "$IMAGES" ] || fail "there is no folder $IMAGES (relative paths start at $ROOT)"
shift
LABELS=${LABELS:-}
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
    LABELS=$1
    expand_home LABELS
    shift
fi
[ -z "$LABELS" ] || [ -e "$LABELS" ] ||
    fail "LABELS: there is no $LABELS (relative paths start at $ROOT)"
OUTPUT=${OUTPUT:-results/images/$(basename -- "$(CDPATH='' cd -- "$IMAGES" && pwd -P)")}
require_config
require_number NPROC
set_up_python

DATA=$OUTPUT/data
MASKS=$OUTPUT/masks
# nothing is written below the images
inside=$("$PYTHON" -c 'import sys; from pathlib import Path
images, *places = sys.argv[1:]
print(*[each for each in places if Path(each).resolve().is_relative_to(Path(images).resolve())][:1])' \
    "$IMAGES" "$OUTPUT" "${SNAPSHOT_DIR:-snapshots}" "${LOGDIR:-logs}")
[ -z "$inside" ] || fail "$inside is in $IMAGES, which is never written to; choose another"
describe=("$PYTHON" -m datasets.describe "$IMAGES" --out "$DATA" --val-share "$VAL_SHARE")
[ -z "$LABELS" ] || describe+=(--labels "$LABELS")
(start "${describe[@]}")
# hours before inference would say so
"$PYTHON" -c 'import sys
from datasets.lists import read_list, require_unique_ids
from utils.errors import run_command
run_command(lambda: require_unique_ids(read_list(sys.argv[1], sys.argv[2]), sys.argv[2]))' \
    "$DATA/images.csv" "$IMAGES"

folders=()
[ -z "$SNAPSHOT_DIR" ] || folders+=(--snapshot-dir "$SNAPSHOT_DIR")
[ -z "$LOGDIR" ] || folders+=(--logdir "$LOGDIR")
run=(--dataset "$DATA" --exp "$EXP" --run "$RUN_ID" "${folders[@]+"${folders[@]}"}")

# a run of other images, whose folder has the same name
# shellcheck disable=SC2034 # for dataset_name
DATASET=$DATA/dataset.yaml
other=${SNAPSHOT_DIR:-snapshots}/$(dataset_name)/$EXP/$RUN_ID/dataset.yaml
[ ! -f "$other" ] || [ "$(grep '^path: ' "$other")" = "$(grep '^path: ' "$DATASET")" ] ||
    fail "the run $EXP/$RUN_ID is of other images, see $other; choose another RUN_ID"

NNODES=""
refused_options=("${run_options[@]}" "--resume=it goes on by itself"
    "--overwrite=choose another RUN_ID")
set_command train.py "${run[@]}" --cfg "$CONFIG" --resume auto
add_further_arguments "$@"
training=("${python_command[@]}")

# the weights that training starts from, where get_weights.sh has them; read from its own arguments
arguments=("${training[@]}")
while [ "${arguments[0]}" != train.py ]; do arguments=("${arguments[@]:1}"); done
net=$("$PYTHON" -c 'from core.config import load_config
from train import parse_args
from utils.errors import run_command
def main():
    args = parse_args()
    net = load_config(args.cfg, args.set).NET
    if not args.init_from:
        print(net.BACKBONE, net.PRE_WEIGHTS_PATH)
run_command(main)' "${arguments[@]:1}")
read -r backbone weights <<<"$net"
if [[ $weights == models/weights/* ]] && [ ! -e "$weights" ]; then
    bash launch/get_weights.sh "$backbone"
fi
(start "${training[@]}")

# of the further arguments, inference has where it computes
machine=()
previous=""
for word in "${training[@]}"; do
    case $previous in --device | --workers) machine+=("$previous" "$word") ;; esac
    case $word in --device=* | --workers=*) machine+=("$word") ;; esac
    previous=$word
done

# known labels are kept to; the configuration is the run's own, with what training has settled
set_command infer_val.py "${run[@]}" --resume best --infer-list "$DATA/images.csv" \
    --mask-output-dir "$MASKS" --renew --page --set TEST.USE_GT_LABELS True
python_command+=("${machine[@]+"${machine[@]}"}")
start "${python_command[@]}"
