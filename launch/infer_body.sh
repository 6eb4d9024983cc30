# shellcheck shell=bash
# The body of the inference scripts, which set its variables and source it with their arguments:
# puts infer_val.py's command, with torchrun if NPROC is set, into the array python_command.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

demand EXP=baselines RUN_ID=v01 SNAPSHOT=e020Xs0.928
require_config
require_filelist
require_number NPROC
choose_python

NNODES="" # images are shared by the processes of one machine
# shellcheck disable=SC2153 # SAVE_ID is no misspelt SAVE_DIR: the scripts set it
SAVE_DIR=$OUTPUT_DIR/$EXP/$SAVE_ID
refused_options=("--dataset=set DATASET" "--cfg=set CONFIG" "--exp=set EXP" "--run=set RUN_ID"
    "--resume=set SNAPSHOT" "--infer-list=set FILELIST"
    "--mask-output-dir=set OUTPUT_DIR and SAVE_ID")
python_command=("$PYTHON")
[ -z "$NPROC" ] || add_torchrun
python_command+=(infer_val.py --dataset "$DATASET" --cfg "$CONFIG" --exp "$EXP"
    --run "$RUN_ID" --resume "$SNAPSHOT" --infer-list "$FILELIST" --mask-output-dir "$SAVE_DIR")
[ -z "$SNAPSHOT_DIR" ] || python_command+=(--snapshot-dir "$SNAPSHOT_DIR")
add_further_arguments "$@"

# infer_then MODULE STEM SUFFIX ARGUMENT ...: infer, then run the Python module with the arguments,
# for the masks without CRF (--out SAVE_DIR/STEM.SUFFIX) and with CRF (STEM_crf.SUFFIX).
infer_then() {
    local module=$1 stem=$2 suffix=$3 masks out
    shift 3
    (start "${python_command[@]}") || return
    for masks in "$SAVE_DIR" "$SAVE_DIR/crf"; do
        out=$SAVE_DIR/$stem.$suffix
        [ "$masks" = "$SAVE_DIR" ] || out=$SAVE_DIR/${stem}_crf.$suffix
        if [ -d "$masks" ]; then
            (start "$PYTHON" -m "$module" "$@" --masks "$masks" --out "$out") || return
        else
            say "there is no folder $masks (TEST.CRF False), so no $out"
        fi
    done
}

# check_before MODULE STEM SUFFIX ARGUMENT ...: what the module of infer_then can say beforehand, in
# the foreground.
check_before() {
    local module=$1 out=$SAVE_DIR/$2.$3
    shift 3
    (start "$PYTHON" -m "$module" "$@" --masks "$SAVE_DIR" --out "$out" --check)
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
