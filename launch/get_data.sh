#!/usr/bin/env bash
# From nothing to a verified VOC 2012 + SBD: downloads them, or takes copies of yours, converts
# SBD's masks, writes the file lists, checks every file.
#     bash ./launch/get_data.sh
#     VOC=/datasets/VOC2012 SBD=/datasets/sbd bash ./launch/get_data.sh
#     SBD_AUG=/datasets/SegmentationClassAug bash ./launch/get_data.sh      # in place of SBD
# What is there already stays; interrupted, the same command goes on. The official numbers of
# images are demanded unless VOC_URL or SBD_URL is set; --official and --no-official say so
# outright. Further arguments go to datasets/voc/get_data.py (--help lists them). Relative paths
# start at the repository's root.

DATA_ROOT=${DATA_ROOT:-data}
VOC=${VOC:-}                                # a copy: any folder of it (to link), or its archive
SBD=${SBD:-}                                # likewise
SBD_AUG=${SBD_AUG:-}                        # or a folder of PNG masks (ID.png) in its place
VOC_TEST=${VOC_TEST:-}                      # the test images, likewise; their server wants a login
VOC_URL=${VOC_URL:-}                        # a mirror's address of the archive
VOC_MD5=${VOC_MD5:-}                        # and its MD5, if it is not the official one
SBD_URL=${SBD_URL:-}
SBD_MD5=${SBD_MD5:-}

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

set_up_python
# with = a value may begin with a dash
exec "$PYTHON" -m datasets.voc.get_data --root="$DATA_ROOT" --voc="$VOC" --sbd="$SBD" \
    --sbd-aug="$SBD_AUG" --voc-test="$VOC_TEST" --voc-url="$VOC_URL" --voc-md5="$VOC_MD5" \
    --sbd-url="$SBD_URL" --sbd-md5="$SBD_MD5" "$@"
