#!/usr/bin/env bash
# Stands in for Python: notes its arguments under $STUB, does as little of what is asked as the
# launch scripts rely on, and ends with the status that the test wants.
set -eu

case "$1" in
    -c)
        # the scripts' questions; a word of $STUB_LACKS in one of them answers it with no
        for word in ${STUB_LACKS:-}; do
            [[ $2 != *"$word"* ]] || exit 1
        done
        case $2 in
            *'print("python'*) echo python3.11 ;;
            *get_dataset_info*) sed -n 's/^name: //p' "$3" ;;
            *find_snapshot*)
                printf '%s\0' "${@:2}" >"$STUB/snapshot_question"
                echo "$3/model_enc_e004Xs0.500.pth"
                ;;
        esac
        exit 0
        ;;
    --version)
        echo "Python 3.11.0"
        exit 0
        ;;
esac

number=$(find "$STUB" -name 'call.*' | wc -l)
printf '%s\0' "$@" >"$STUB/call.$(printf '%03d' "$number")"
[ -z "${STUB_FAILS:-}" ] || [[ "$*" != *"$STUB_FAILS"* ]] || exit "$STUB_STATUS"

case "$1 ${2:-}" in
    "-m venv")
        folder=${!#}
        mkdir -p "$folder/bin"
        cp "$0" "$folder/bin/python"
        cp "$0" "$folder/bin/shellcheck"
        touch "$folder/pyvenv.cfg"
        ;;
    "-m datasets.prepare")
        mkdir -p "${!#}"
        touch "${!#}/val_voc.txt"
        ;;
    *.py*)
        echo "unbuffered=${PYTHONUNBUFFERED:-} in $PWD"
        echo "to stderr" >&2
        words=("$@")
        for i in "${!words[@]}"; do
            [ "${words[i]}" = --mask-output-dir ] || continue
            mkdir -p "${words[i + 1]}"
            [[ "$*" == *"TEST.CRF False"* ]] || mkdir -p "${words[i + 1]}/crf"
        done
        if [ -n "${STUB_SLEEPS:-}" ]; then
            trap 'echo "interrupted cleanly"; exit 130' INT
            touch "$STUB/sleeping"
            for _ in {1..1500}; do
                sleep 0.2
            done
        fi
        ;;
esac
