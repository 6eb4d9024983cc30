# shellcheck shell=bash
# The body of the inference scripts, which set its variables and source it with their arguments:
# puts infer_val.py's command, with torchrun if NPROC is set, into the array python_command.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

demand EXP=baselines RUN_ID=v01 SNAPSHOT=e020Xs0.928
[ -z "$CONFIG" ] || require_config
require_filelist
require_number NPROC
choose_python

NNODES="" # images are shared by the processes of one machine
# shellcheck disable=SC2153 # SAVE_ID is no misspelt SAVE_DIR: the scripts set it
SAVE_DIR=$OUTPUT_DIR/$EXP/$SAVE_ID
refused_options=("${run_options[@]}" "--resume=set SNAPSHOT" "--infer-list=set FILELIST"
    "--mask-output-dir=set OUTPUT_DIR and SAVE_ID")
set_command infer_val.py --exp "$EXP" --run "$RUN_ID" --resume "$SNAPSHOT" \
    --infer-list "$FILELIST" --mask-output-dir "$SAVE_DIR"
# without these, the data set and the configuration are those of the snapshot
[ -z "$DATASET" ] || python_command+=(--dataset "$DATASET")
[ -z "$CONFIG" ] || python_command+=(--cfg "$CONFIG")
[ -z "$DATA_ROOT" ] || python_command+=(--set TEST.DATA_ROOT "$DATA_ROOT")
[ -z "$SNAPSHOT_DIR" ] || python_command+=(--snapshot-dir "$SNAPSHOT_DIR")
add_further_arguments "$@"

# infer_then MODULE STEM SUFFIX: infer, logged, then run the Python module, for the masks without CRF
# (--out SAVE_DIR/STEM.SUFFIX) and with CRF (STEM_crf.SUFFIX). What the module can say beforehand it
# says first, in the foreground.
infer_then() {
    local module=$1 out=$SAVE_DIR/$2.$3
    list_arguments=(--filelist "$FILELIST")
    [ -z "$DATASET" ] || list_arguments+=(--dataset "$DATASET")
    [ -z "$DATA_ROOT" ] || list_arguments+=(--data "$DATA_ROOT")
    (start "$PYTHON" -m "$module" "${list_arguments[@]}" --masks "$SAVE_DIR" --out "$out" --check)
    run_inference infer_and_run "$@"
}

infer_and_run() {
    local module=$1 stem=$2 suffix=$3 masks out
    (start "${python_command[@]}") || return
    for masks in "$SAVE_DIR" "$SAVE_DIR/crf"; do
        out=$SAVE_DIR/$stem.$suffix
        [ "$masks" = "$SAVE_DIR" ] || out=$SAVE_DIR/${stem}_crf.$suffix
        if [ -d "$masks" ]; then
            (start "$PYTHON" -m "$module" "${list_arguments[@]}" --masks "$masks" --out "$out") || return
        else
            say "there is no folder $masks (TEST.CRF False), so no $out"
        fi
    done
}

# run_inference COMMAND ...: run it logged, and say where its masks are.
run_inference() {
    run_logged "$@"
    if [ "$DETACH" = 1 ]; then
        say "its masks will be in $SAVE_DIR"
    else
        say "SAVE_DIR=$SAVE_DIR"
    fi
}
