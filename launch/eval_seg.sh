#!/usr/bin/env bash
# Prints the IoU of the masks that infer_val.sh has written, without CRF and, where there is a folder
# crf/, with it. Set the values here or before the command:
#     SAVE_DIR=results/baselines/v01 bash ./launch/eval_seg.sh
# REPORT, JSON and TENSORBOARD keep the numbers of both, as a page, a file and scalars. EXTRA_ARGS
# (quotes in it keep spaces and backslashes), then further arguments go to eval_seg.py, for both
# tables. Relative paths start at the repository's root.

SAVE_DIR=${SAVE_DIR:-}                      # to be set: the folder with the masks
FILELIST=${FILELIST:-data/val_voc.txt}      # the images and their ground truth
DATA_ROOT=${DATA_ROOT:-data}                # where the list's paths start
DATASET=${DATASET:-pascal_voc}
EXP=${EXP:-$(basename -- "$(dirname -- "$SAVE_DIR")")} # EXP and RUN_ID name the log
RUN_ID=${RUN_ID:-$(basename -- "$SAVE_DIR")}
LOGDIR=${LOGDIR:-}                          # default: logs
REPORT=${REPORT:-}                          # a folder: index.html, a page to look at
JSON=${JSON:-}                              # a file
TENSORBOARD=${TENSORBOARD:-}                # a folder, as logs/pascal_voc/baselines/v01
EXTRA_ARGS=${EXTRA_ARGS:-}                  # as "--allow-missing"
DETACH=${DETACH:-0}                         # 1: in the background

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

evaluate_both() {
    local title masks status=0 worst=0
    for title in "without CRF" "with CRF"; do
        masks=$SAVE_DIR
        if [ "$title" = "with CRF" ]; then
            masks=$SAVE_DIR/crf
            if [ ! -d "$masks" ]; then
                printf '\nno masks with CRF: there is no folder %s\n' "$masks"
                continue
            fi
        fi
        printf '\n== %s\n' "$title: $masks"
        status=0
        (start "${python_command[@]}" --masks "$masks") || status=$?
        # above 128: a signal, as Ctrl-C
        [ "$status" -lt 128 ] || return "$status"
        [ "$status" -eq 0 ] || worst=$status
    done
    return "$worst"
}

# What is kept holds both: one call makes it, and prints both tables, where there is a crf/.
evaluate_once() {
    printf '\n== %s\n' "without and with CRF: $SAVE_DIR"
    start "${python_command[@]}" --masks "$SAVE_DIR"
}

demand SAVE_DIR=results/baselines/v01
[ -d "$SAVE_DIR" ] || fail "SAVE_DIR: there is no folder $SAVE_DIR (relative paths start at $ROOT);" \
    "masks are made by \`bash launch/infer_val.sh\`"
require_filelist
choose_python

once="this script evaluates twice; call \`.venv/bin/python eval_seg.py --data $DATA_ROOT --filelist"
once+=" $FILELIST --masks $SAVE_DIR\` with it instead"
refused_options=("--data=set DATA_ROOT" "--dataset=set DATASET" "--filelist=set FILELIST"
    "--masks=set SAVE_DIR" "--report=set REPORT" "--json=set JSON" "--tensorboard=set TENSORBOARD"
    "--log-scores=$once" "--oracle-from=$once")
python_command=("$PYTHON" eval_seg.py --dataset "$DATASET" --data "$DATA_ROOT" --filelist "$FILELIST")
evaluate=evaluate_both
for option in "--report=$REPORT" "--json=$JSON" "--tensorboard=$TENSORBOARD"; do
    if [ -n "${option#*=}" ]; then
        python_command+=("${option%%=*}" "${option#*=}")
        evaluate=evaluate_once
    fi
done
add_further_arguments "$@"

prints_result=1
run_logged "$evaluate"
