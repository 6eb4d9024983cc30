#!/usr/bin/env bash
# From nothing to a verified MS COCO 2014: downloads its images and annotations, or links a copy of
# yours, paints masks of the validation images, writes the file lists, checks every file.
#     bash ./launch/get_coco.sh
#     COCO=/datasets/coco bash ./launch/get_coco.sh
# What is there already stays; interrupted, the same command goes on. Each archive is removed once
# it is unpacked: about 27.5 GB of room at most, of which 21 stay. The official checksums and
# numbers of images are demanded unless COCO_URL is set; --official and --no-official say so
# outright. Further arguments go to datasets/coco/get_data.py (--help lists them), as
# --train-masks, which paints masks of the training images, too. Relative paths start at the
# repository's root.

DATA_ROOT=${DATA_ROOT:-data}
COCO=${COCO:-}                              # a copy: train2014, val2014 and annotations are in it
COCO_MASKS=${COCO_MASKS:-}                  # a folder of masks, in place of those painted here
COCO_URL=${COCO_URL:-}                      # a mirror's address, of a folder with the archives

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

set_up_python
# with = a value may begin with a dash
exec "$PYTHON" -m datasets.coco.get_data --root="$DATA_ROOT" --coco="$COCO" \
    --masks="$COCO_MASKS" --coco-url="$COCO_URL" "$@"
