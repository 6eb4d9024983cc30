"""train.py as a user runs it, on a small mini-VOC, with a thin network."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_command import error_of, scalars, snapshots, train

from datasets.files import read_mask, write_mask
from datasets.voc import PASCAL_VOC

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def finished(mini_voc, tmp_path_factory):
    """A folder in which run `v01` went from epoch 0 to 2."""
    folder = tmp_path_factory.mktemp("training")
    result = train(mini_voc, folder)
    return folder, result


def test_snapshots_are_named_and_laid_out_as_published(finished):
    folder, result = finished
    found = snapshots(folder, "v01")
    assert {suffix[:5] for suffix in found} <= {"e002X", "e003X"}  # from PRETRAIN on
    assert "e002X" in {suffix[:5] for suffix in found}
    for suffix, path in found.items():
        assert f"{path.relative_to(folder)}" in result.stdout
        state = torch.load(path, weights_only=True)
        lines = (REPOSITORY / "tests/golden/state_dict_vgg16_bsl.txt").read_text().splitlines()
        assert [line.split()[0] for line in lines] == list(state)
        assert path.with_name(f"opt_enc_{suffix}.pth").exists()


def test_events_have_the_published_tags_at_the_validated_epochs(finished):
    folder, _ = finished
    validated = [0, 2, 3]  # every second epoch before it trains, and after the last one
    classes = [f"{i:02d}_{name}/AP" for i, name in enumerate(PASCAL_VOC.classes) if i]
    for writer in ("train", "val"):
        found = scalars(folder, "v01", writer)
        # the small train_voc lacks some classes
        present = classes if writer == "val" else [tag for tag in classes if tag in found]
        assert len(present) > 5
        for tag in (*present, "all_wo_BG/mAP", "all/loss", "all/loss_cls", "all/loss_fg"):
            assert [step for step, _ in found[tag]] == validated, tag
    val = scalars(folder, "v01", "val")
    losses = dict(val["all/loss"])
    scores = dict(val["all/checkpoint_score"])
    assert scores == pytest.approx({step: 1 - losses[step] for step in (2, 3)}, abs=1e-6)
    best = 0.0 if not scores else max(scores.values())
    assert f"{best:.3f}" in {suffix.split("s")[1] for suffix in snapshots(folder, "v01")}

    rates = scalars(folder, "v01", "train")
    for group, factor in enumerate((1, 2, 10, 20)):
        assert rates[f"lr/enc_group_{group:02d}"] == [
            (epoch, pytest.approx(0.001 * factor)) for epoch in range(3)
        ]
    events = EventAccumulator(str(folder / "logs/pascal_voc/tests/v01/train"))
    events.Reload()
    assert [image.step for image in events.Images("visualisation")] == [0, 1, 2]


def test_what_was_run_is_recorded_beside_the_logs(finished):
    folder, _ = finished
    logs = folder / "logs/pascal_voc/tests/v01"
    config = yaml.safe_load((logs / "config.yaml").read_text())
    assert config["NET"]["BACKBONE"] == "vgg16"
    assert config["NET"]["WEIGHT_DECAY"] == 0.0005  # of the file
    assert config["NET"]["SG_PSI"] == 0.3  # a default
    environment = yaml.safe_load((logs / "environment.yaml").read_text())
    assert environment["seed"] == 64
    assert environment["torch"] == torch.__version__
    assert environment["commit"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(finished, mini_voc):
    folder, _ = finished
    train(mini_voc, folder, "--run", "twin")
    train(mini_voc, folder, "--run", "other", "--random-seed", "65")
    mine, twin, other = (snapshots(folder, run) for run in ("v01", "twin", "other"))
    assert list(mine) == list(twin)
    for suffix, path in mine.items():
        state, again = (torch.load(p, weights_only=True) for p in (path, twin[suffix]))
        assert all(torch.equal(state[name], again[name]) for name in state)
    weights = [torch.load(next(iter(s.values())), weights_only=True) for s in (mine, other)]
    assert not torch.equal(weights[0]["fc7.weight"], weights[1]["fc7.weight"])


@pytest.mark.slow
def test_resuming_ends_like_the_uninterrupted_run(mini_voc, tmp_path):
    """With a worker, whose random numbers must not depend on when it started."""
    workers = {"TRAIN__NUM_WORKERS": "1"}
    train(mini_voc, tmp_path, "--run", "long", TRAIN__NUM_EPOCHS="3", **workers)
    train(mini_voc, tmp_path, "--run", "halves", TRAIN__NUM_EPOCHS="1", **workers)
    start = next(iter(snapshots(tmp_path, "halves")))
    result = train(
        mini_voc, tmp_path, "--run", "halves", "--resume", start, TRAIN__NUM_EPOCHS="3", **workers
    )
    assert "epoch 2, trained" in result.stdout
    assert "epoch 1, trained" not in result.stdout
    whole, parts = snapshots(tmp_path, "long"), snapshots(tmp_path, "halves")
    assert list(whole) == list(parts)
    last = list(whole)[-1]
    state, again = (torch.load(found[last], weights_only=True) for found in (whole, parts))
    assert all(torch.equal(state[name], again[name]) for name in state)
    scores = [scalars(tmp_path, run, "val")["all/checkpoint_score"] for run in ("long", "halves")]
    assert scores[0] == scores[1]
    logs = tmp_path / "logs/pascal_voc/tests/halves"
    assert yaml.safe_load((logs / "config.yaml").read_text())["TRAIN"]["NUM_EPOCHS"] == 1
    assert yaml.safe_load((logs / "config_e002.yaml").read_text())["TRAIN"]["NUM_EPOCHS"] == 3


@pytest.mark.slow  # the one real backbone here
def test_the_segmentation_network_trains(mini_voc, tmp_path):
    settings = {
        "NET__MODEL": "ae",
        "NET__BACKBONE": "resnet50",
        "TRAIN__NUM_EPOCHS": "0",
        "TRAIN__PRETRAIN": "0",
        "TRAIN__BATCH_SIZE": "20",
    }
    train(mini_voc, tmp_path, **settings)
    for writer in ("train", "val"):
        found = scalars(tmp_path, "v01", writer)
        for loss, cls, mask in zip(
            found["all/loss"], found["all/loss_cls"], found["all/loss_mask"], strict=True
        ):
            assert loss[1] == pytest.approx(cls[1] + mask[1], rel=1e-5)
    state = torch.load(next(iter(snapshots(tmp_path, "v01").values())), weights_only=True)
    lines = (REPOSITORY / "tests/golden/state_dict_resnet50_ae.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == list(state)
    assert state["bn1.num_batches_tracked"] in (0, 2)  # nothing is frozen: two steps were counted


def test_a_run_with_snapshots_is_not_trained_over(finished, mini_voc):
    folder, _ = finished
    before = snapshots(folder, "v01")
    message = error_of(train(mini_voc, folder, status=2))
    assert all(word in message for word in ("--resume", "RUN_ID", "--overwrite"))
    assert snapshots(folder, "v01") == before

    message = error_of(train(mini_voc, folder, "--resume", "best", "--overwrite", status=2))
    assert "one of them" in message

    message = error_of(train(mini_voc, folder, "--resume", "e009Xs0.999", status=2))
    assert all(suffix in message for suffix in before)


@pytest.mark.slow
def test_overwriting_replaces_snapshots_and_events(mini_voc, tmp_path):
    quick = {"TRAIN__NUM_EPOCHS": "0", "TRAIN__PRETRAIN": "0"}
    train(mini_voc, tmp_path, **quick)

    def contents() -> set[bytes]:
        return {path.read_bytes() for path in snapshots(tmp_path, "v01").values()}

    first = contents()
    # a mistake elsewhere must not cost the old snapshots
    train(mini_voc, tmp_path, "--overwrite", status=2, NET__FREEZE_BN="True", **quick)
    assert contents() == first
    train(mini_voc, tmp_path, "--overwrite", "--random-seed", "3", **quick)
    assert first and contents() and not first & contents()
    assert [step for step, _ in scalars(tmp_path, "v01", "val")["all/loss"]] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"NET__FREEZE_BN": "True"},
            ("NET.PRE_WEIGHTS_PATH", "vgg16_20M.pth", "get_weights.sh vgg16"),
        ),
        ({"NET__PRE_WEIGHTS_PATH": "no/such.pth"}, ("no/such.pth", "get_weights.sh vgg16")),
        ({"DATASET__PATH": "no-data"}, ("no-data", "bash launch/get_data.sh")),
        ({"TRAIN__BATCH_SIZE": "41"}, ("TRAIN.BATCH_SIZE", "40 images")),
        ({"TRAIN__BATCH_SIZE": "1"}, ("TRAIN.BATCH_SIZE", "NET.FREEZE_BN")),
        ({"TRAIN__PRETRAIN": "9"}, ("TRAIN.NUM_EPOCHS", "TRAIN.PRETRAIN")),
        ({"NET__BACKBONE": "vgg19"}, ("vgg19", "resnet38")),
    ],
)
def test_mistakes_end_in_one_line(mini_voc, tmp_path, changes, words):
    message = error_of(train(mini_voc, tmp_path, status=2, **changes))
    assert all(word in message for word in words)
    assert not (tmp_path / "snapshots").exists()


def test_masks_that_teach_nothing_end_in_one_line(mini_voc, tmp_path):
    """Those of 0 and 255 alone, as binary masks are mostly saved, and those of other images."""
    root = tmp_path / "data"
    subprocess.run(["cp", "-r", mini_voc, root], check=True)
    pairs = [line.split() for line in (root / "train_augvoc.txt").read_text().splitlines()]
    contents = {root / mask: (root / mask).read_bytes() for _, mask in pairs}
    for path in contents:
        binary = np.where(read_mask(path) > 0, 255, 0)
        write_mask(path, binary, PASCAL_VOC.palette)
    message = error_of(train(root, tmp_path, status=2))
    assert all(word in message for word in ("train_augvoc.txt", "0 and 255", "0 to 20"))
    for path, content in contents.items():
        path.write_bytes(content)
    masks = [mask for _, mask in pairs]
    shifted = zip((image for image, _ in pairs), masks[1:] + masks[:1], strict=True)
    (root / "train_augvoc.txt").write_text("".join(f"{i} {m}\n" for i, m in shifted))
    message = error_of(train(root, tmp_path, status=2))
    assert re.search(r"mask .*×.*, its image .*×.* of the 40 pairs in train_augvoc\.txt", message)
    assert not [path for path in (tmp_path / "snapshots").rglob("*.pth")]


def test_a_damaged_image_is_named(mini_voc, tmp_path):
    root = tmp_path / "data"
    subprocess.run(["cp", "-r", mini_voc, root], check=True)
    line = (root / "train_augvoc.txt").read_text().splitlines()[7]
    image = root / line.split()[0]
    image.write_bytes(image.read_bytes()[:100])
    message = error_of(train(root, tmp_path, status=2, TRAIN__NUM_WORKERS="1"))
    assert image.name in message
