#!/usr/bin/env bash
# Downloads ImageNet weights and the published snapshot to where the configurations expect them,
# and verifies them:
#     bash ./launch/get_weights.sh [resnet38] [vgg16] [resnet50] [resnet101] [snapshot]
# Beside the snapshot go config.yaml and dataset.yaml, which inference reads. Without names:
# all of them, 1.3 GB. What is there already is verified; interrupted, the same command goes on.

WEIGHTS_URL=${WEIGHTS_URL:-}                # a mirror: the folder that holds the files

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

set_up_python
exec "$PYTHON" -m core.get_weights --url="$WEIGHTS_URL" "$@"
