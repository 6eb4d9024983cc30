"""README, CONTRIBUTING, docs/ and benchmarks/README.md name only what exists."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from doc_commands import (
    PAGES,
    ROOT,
    blocks_of,
    commands_of,
    inline_code_of,
    mistakes_of,
    mistakes_of_code,
    mistakes_of_command,
)

README = (ROOT / "README.md").read_text(encoding="utf-8")
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

WRONG_COMMANDS = {
    "bash launch/get_date.sh": "launch/get_date.sh",
    "bash launch/demo.sh --fast": "--fast",
    "bash launch/setup.sh --test": "--test",
    "bash launch/get_data.sh --offical": "--offical",
    "bash launch/infer_images.sh photos --pages": "--pages",
    "bash launch/infer_images.sh photos --labels a.csv": "--labels",  # LABELS, it says
    "EXP=a RUNID=b bash launch/run_voc_vgg16.sh": "RUNID",
    "NPROC=2 bash launch/get_data.sh": "NPROC",
    "MASTER_ADDR=a SAVE_DIR=b bash launch/eval_seg.sh": "MASTER_ADDR",
    "CONFIG=configs/voc.yaml bash launch/run_voc_vgg16.sh": "configs/voc.yaml",
    'EXTRA_ARGS="--sett NET.LR 1" bash launch/run_voc_vgg16.sh': "--sett",
    'EXTRA_ARGS="--set NET.RATE 1" bash launch/run_voc_vgg16.sh': "NET.RATE",
    "bash launch/run_voc_vgg16.sh --set NET.LR": "NET.LR",
    "bash launch/run_voc_vgg16.sh --set TRAIN.AMP half": "TRAIN.AMP",
    "python trian.py": "trian.py",
    ".venv/bin/python train.py --exp a": "--cfg",
    ".venv/bin/python train.py --cfg configs/mini.yaml": "configs/mini.yaml",
    "python eval_seg.py --mask a": "--mask",
    "python eval_seg.py --masks a --step x": "--step",
    "python eval_seg.py --log_scores …": "--log_scores",
    "python -m datasets.minivoc --out a": "datasets.minivoc",
    "python -m datasets.mini_voc --layout tree --out a": "tree",
    "python -m benchmarks --seconds ten": "ten",
    "python -m core.torchrun --procs 4 train.py --cfg a": "--procs",
    "torchrun --standalone -- train.py --cfg a --speed 1": "--speed",
    "python -m pip install -r tests/needs.txt": "tests/needs.txt",
    "cd a && bash launch/demo.sh && bash launch/tests.sh": "launch/tests.sh",
    "HOST=a python -m datasets.prepare --check": "HOST",
    "grep -r a": "grep",
    "bash launch/demo.sh 'a": "quotation",
}
RIGHT_COMMANDS = [
    "bash launch/test.sh -m 'not slow'",
    "bash launch/get_weights.sh resnet38 snapshot   # a comment",
    "VOC=~/a.tar DATA_ROOT=b bash launch/get_data.sh --no-official",
    "NNODES=2 NODE_RANK=0 MASTER_ADDR=a NPROC=4 EXP=b RUN_ID=c bash ./launch/run_voc_vgg16.sh",
    'EXP=a RUN_ID=b bash launch/run_voc_vgg16.sh --set NET.LR 0.1 TEST.SCALES "[1, 0.5]"',
    'EXTRA_ARGS="--set TEST.CRF False" SNAPSHOT=best bash launch/infer_val.sh --skip-existing',
    "torchrun --standalone --nproc-per-node 4 -- train.py …",
    "python -m core.torchrun --nproc-per-node 4 train.py --cfg configs/mini_resnet50.yaml",
    "python -m datasets.mini_voc --out a > log.txt 2>&1 | cd b",
    "python eval_seg.py --help",
]
WRONG_CODE = [
    "--page-size 3",
    "--no-page",
    "NPROCS=4",
    "infer_tests.sh",
    "core/konfig.py",
    "tests/silver/",
    "configs/yolo_*.yaml",
    "launch/run_{voc,ade}_vgg16.sh",
]
RIGHT_CODE = [
    "--page",
    "--no-official",
    "NPROC=4",
    "infer_test.sh",
    "core/config.py",
    "tests/golden/",
    "configs/coco_*.yaml",
    "launch/run_{voc,coco}_{vgg16,resnet50}.sh",
    "C×H×W",
]


@pages
def test_a_page_names_only_what_exists(page):
    text = page.read_text(encoding="utf-8")
    assert mistakes_of(text, has_additions=page.name == "extending.md") == []


@pytest.mark.parametrize("command", WRONG_COMMANDS)
def test_a_wrong_command_is_found(command):
    (mistake, *_) = mistakes_of_command(command)
    assert WRONG_COMMANDS[command] in mistake


@pytest.mark.parametrize("command", RIGHT_COMMANDS)
def test_a_right_command_is_none(command):
    assert mistakes_of_command(command) == []


def test_code_that_names_what_is_not_there():
    assert [code for code in WRONG_CODE if not mistakes_of_code(code)] == []
    assert [code for code in RIGHT_CODE if mistakes_of_code(code)] == []


@pytest.mark.parametrize("key", ["TEST.WINDOWS", "NET.PAMR", "MASKS.CRF.ALPHA"])
def test_a_key_that_is_not_there(key):
    assert mistakes_of(f"| `{key}` | what it does |\n") == [f"there is no key {key}"]
    assert mistakes_of("| `TEST.WINDOW` | and NET.LR, MASKS.CRF |\n") == []


def test_values_that_a_page_adds():
    page = "`python train.py --cfg a --set NET.LOSS Focal`"
    assert len(mistakes_of(page)) == 1
    assert mistakes_of(page, has_additions=True) == []
    assert len(mistakes_of(page.replace("LOSS", "LASS"), has_additions=True)) == 2


def test_where_commands_are_found():
    page = """
text `bash launch/a.sh b` and `NAME=1
python c.py`, `no command`

```bash
one --a \\
    --b
# not this
two
```

```console
$ three
its output
```

```python
four
```

    .venv/bin/python -m five   # in an indented block
    its output
"""
    assert commands_of(page) == [
        *("one --a      --b", "two", "three"),
        ".venv/bin/python -m five   # in an indented block",
        *("bash launch/a.sh b", "NAME=1 python c.py"),
    ]
    assert "no command" in inline_code_of(page)


def test_readme_can_be_read():
    assert len(README.split()) <= 1500


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    """An empty checkout with a stand-in for the published snapshot, where README looks for it."""
    import torch
    from PIL import Image

    from core.checkpoint import save_model
    from core.config import load_config
    from models import get_model

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "snapshots/pascal_voc/published/resnet38"
    folder.mkdir(parents=True)
    settings = ["NET.BACKBONE", "vgg16", "NET.PRE_WEIGHTS_PATH", "", "TEST.SCALES", "[1]"]
    config = load_config(ROOT / "configs/voc_resnet38.yaml", settings)
    torch.manual_seed(1)
    save_model(get_model(config.NET), folder / "model_enc_e020Xs0.928.pth")
    (folder / "config.yaml").write_text(config.to_yaml())
    shutil.copy(ROOT / "datasets/pascal_voc.yaml", folder / "dataset.yaml")
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (48, 32), "teal").save(tmp_path / "photos/beach.jpg")
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("thin_vgg16", "published")
def test_the_python_of_readme_runs():
    (code,) = (text for language, text in blocks_of(README) if language == "python")
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["result"].mask.shape == (32, 48)
    assert names["result"].probabilities.shape == (21, 32, 48)
    assert len(names["segmenter"].info.classes) == 21
