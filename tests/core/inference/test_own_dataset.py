"""A run explains itself: a snapshot of a user's own classes needs no configuration and no list."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import yaml
from own_dataset import NAMES, best, make_dataset, run_infer, run_train, runs_files
from PIL import Image
from training_command import error_of

from core.config import load_config
from core.inference import Segmenter
from datasets.dataset_file import read_dataset
from datasets.files import read_mask
from utils.errors import UserError

OUT = "--mask-output-dir"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the data set `data` and a run on it; tests leave both as they are."""
    folder = tmp_path_factory.mktemp("home")
    run_train(make_dataset(folder / "data"), folder)
    return folder


def masks_in(folder):
    return {path.name: read_mask(path) for path in sorted(folder.glob("*.png"))}


def assert_equal_masks(one, other):
    assert one.keys() == other.keys() and one
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_the_snapshot_or_its_run_is_enough(home, tmp_path):
    by_file = run_infer(home, "--snapshot", best(home), OUT, tmp_path / "file")
    by_run = run_infer(home, "--exp", "main", "--run", "v01", "--resume", "best", OUT, tmp_path)
    assert "4 images of" in by_file.stdout and "data/val.csv" in by_run.stdout
    assert_equal_masks(masks_in(tmp_path / "file"), masks_in(tmp_path))
    # beside the masks lies what they were made with
    assert read_dataset(tmp_path / "dataset.yaml").classes == ("background", *NAMES)
    assert load_config(tmp_path / "config.yaml").NET.BACKBONE == "vgg16"


def test_images_without_a_list_and_as_an_object(home, tmp_path, thin_vgg16):
    run_infer(home, "--snapshot", best(home), "--infer-list", "data/images", OUT, tmp_path)
    masks = masks_in(tmp_path)
    assert len(masks) == 12
    segmenter = Segmenter.from_snapshot(best(home), device="cpu")
    assert segmenter.info.classes[1:] == NAMES
    image = home / "data/images/Größe 00.png"
    known = segmenter.predict(image, image_labels=["hot dog"])
    assert known.probabilities.shape == (4, 40, 48)
    assert not known.probabilities[[1, 3]].any() and known.probabilities[2].any()


def copy_of(snapshot, folder):
    folder.mkdir()
    return shutil.copy(snapshot, folder)


def test_a_snapshot_that_was_moved_alone(home, tmp_path, thin_vgg16):
    moved = copy_of(best(home), tmp_path / "moved")
    given = ("--snapshot", moved, OUT, tmp_path / "out")
    line = error_of(run_infer(home, *given, status=2))
    for word in (str(moved), "config.yaml", "dataset.yaml", "--cfg", "--dataset"):
        assert word in line
    with pytest.raises(UserError, match=r"config\.yaml and dataset\.yaml"):
        Segmenter.from_snapshot(moved, device="cpu")
    assert not (tmp_path / "out").exists()
    # both remedies help
    options = ("--cfg", runs_files(home) / "config.yaml", "--dataset", "data")
    run_infer(home, *given, *options)
    for name in ("config.yaml", "dataset.yaml"):
        shutil.copy(runs_files(home) / name, tmp_path / "moved")
    run_infer(home, "--snapshot", moved, OUT, tmp_path / "beside")
    assert_equal_masks(masks_in(tmp_path / "out"), masks_in(tmp_path / "beside"))


def refused(home, tmp_path, *arguments, **changes):
    out = tmp_path / "out"
    line = error_of(run_infer(home, *arguments, OUT, out, status=2, **changes))
    assert not out.exists() or not list(out.rglob("*.png"))
    return line


def test_other_classes_are_named_on_both_sides(home, tmp_path):
    given = ("--snapshot", best(home), "--dataset")
    line = refused(home, tmp_path, *given, "pascal_voc")
    assert "pascal_voc has 21" in line and "own has 4" in line
    other = make_dataset(tmp_path / "other", ["Käfer", "cat", "tv/monitor"], name="other")
    line = refused(home, tmp_path, *given, other)
    assert "'cat'" in line and "'hot dog'" in line and str(runs_files(home)) in line
    # by the weights alone, where no dataset.yaml tells
    moved = copy_of(best(home), tmp_path / "moved")
    two = make_dataset(tmp_path / "two", ["cat", "dog"], name="two")
    cfg = runs_files(home) / "config.yaml"
    line = refused(home, tmp_path, "--snapshot", moved, "--cfg", cfg, "--dataset", two)
    assert "of 3 objects" in line and "has 2" in line and "--dataset" in line


@pytest.mark.slow
def test_another_network_is_named_on_both_sides(home, tmp_path):
    cfg = tmp_path / "cfg.yaml"
    cfg.write_text("NET: {MODEL: ae, BACKBONE: resnet50}\n")
    for arguments, changes in ((["--cfg", cfg], {}), ([], {"NET__MODEL": "ae"})):
        line = refused(home, tmp_path, "--snapshot", best(home), *arguments, **changes)
        assert "a snapshot of bsl with vgg16, needed is a snapshot of ae" in line
        assert "NET.MODEL bsl" in line and len(line.replace(str(best(home)), "").split()) < 50


def test_a_number_of_classes_that_contradicts(home, tmp_path):
    given = ("--snapshot", best(home))
    line = refused(home, tmp_path, *given, TEST__NUM_CLASSES=21)
    assert "TEST.NUM_CLASSES is 21" in line and "own has 4" in line
    run_infer(home, *given, OUT, tmp_path / "same", TEST__NUM_CLASSES=4)


@pytest.mark.slow
def test_runs_of_one_name_on_two_data_sets(home, tmp_path):
    snapshots = tmp_path / "snapshots"
    for name in ("own", "twin"):
        shutil.copytree(runs_files(home), snapshots / name / "main/v01")
    given = ("--snapshot-dir", snapshots, "--resume", "best")
    line = refused(home, tmp_path, *given)
    assert "own/main/v01" in line and "twin/main/v01" in line and "--dataset" in line
    run_infer(home, *given, "--dataset", "data", OUT, tmp_path / "named")


def test_a_data_set_that_was_moved_is_read_where_it_is(home, tmp_path):
    shutil.copytree(home / "data", tmp_path / "there")
    shutil.copytree(runs_files(home), tmp_path / "run")
    own = tmp_path / "run/dataset.yaml"
    own.write_text(own.read_text().replace(str(home / "data"), str(tmp_path / "gone")))
    snapshot = tmp_path / "run" / best(home).name
    given = ("--snapshot", snapshot)
    line = refused(home, tmp_path, *given)
    assert str(tmp_path / "gone/val.csv") in line and "DATASET.PATH" in line
    for key in ("DATASET__PATH", "TEST__DATA_ROOT"):
        done = run_infer(home, *given, OUT, tmp_path / key, **{key: str(tmp_path / "there")})
        assert str(tmp_path / "there/val.csv") in done.stdout


def objects_in(out):
    return {name: set(np.unique(mask)) - {0} for name, mask in masks_in(out).items()}


def table_of(home):
    with (home / "data/labels.csv").open(encoding="utf-8", newline="") as file:
        return {row[0]: row[1:] for row in csv.reader(file)}


def test_labels_of_the_data_sets_table(home, tmp_path):
    given = ("--snapshot", best(home), "--infer-list", "train")
    run_infer(home, *given, OUT, tmp_path / "out", TEST__USE_GT_LABELS=True)
    allowed = {
        f"{name.split('/')[-1]}": {1 + NAMES.index(each) for each in found}
        for name, found in table_of(home).items()
    }
    found = objects_in(tmp_path / "out")
    assert len(found) == 8 and any(found.values())
    assert all(objects <= allowed[name] for name, objects in found.items())
    manifest = json.loads((tmp_path / "out/results.json").read_text())
    assert manifest["made_from"]["the labels"].startswith("sha256 ")


def test_images_that_the_table_lacks_are_predicted(home, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(home / "data/images/Größe 00.png", images)
    shutil.copy(home / "data/images/Größe 01.png", images / "new.png")
    given = ("--snapshot", best(home), "--infer-list", images)
    done = run_infer(home, *given, OUT, tmp_path / "known", TEST__USE_GT_LABELS=True)
    [note] = [line for line in done.stdout.splitlines() if line.startswith("labels: ")]
    assert "labels.csv" in note and "has 1 of the 2" in note
    run_infer(home, *given, OUT, tmp_path / "predicted")
    masks = [masks_in(tmp_path / folder)["new.png"] for folder in ("known", "predicted")]
    assert np.array_equal(*masks)


@pytest.mark.slow
def test_a_changed_column_of_labels_makes_results_anew(home, tmp_path):
    given = ("--snapshot", best(home), "--infer-list", tmp_path / "list.csv", "--skip-existing")
    image = home / "data/images/Größe 00.png"
    for objects in ("Käfer", "hot dog"):
        (tmp_path / "list.csv").write_text(f"image,labels\n{image},{objects}\n")
        status = 0 if objects == "Käfer" else 2
        changes = {"TEST__USE_GT_LABELS": True, "DATASET__PATH": "/"}
        changes["TEST__DATA_ROOT"] = "/"
        done = run_infer(home, *given, OUT, tmp_path / "out", status=status, **changes)
    assert "the labels was" in error_of(done)


def class_folders(home, folder):
    for name, objects in list(table_of(home).items())[:4]:
        for each in objects:
            place = folder / each.replace("/", "_")
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(home / "data" / name, place)
    return folder


def voc_xml(home, folder):
    folder.mkdir()
    for name, objects in list(table_of(home).items())[:4]:
        found = "".join(f"<object><name>{each}</name></object>" for each in objects)
        path = (folder / name.split("/")[-1]).with_suffix(".xml")
        path.write_text(f"<annotation>{found}</annotation>", encoding="utf-8")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("write", [class_folders, voc_xml])
def test_labels_in_a_folder_go_on_where_results_are(home, tmp_path, write):
    images = tmp_path / "images"
    images.mkdir()
    names = [name.split("/")[-1] for name in table_of(home)][:4]
    for name in names:
        shutil.copy(home / "data/images" / name, images)
    labels = write(home, tmp_path / "labels")
    given = ("--snapshot", best(home), "--infer-list", images, "--labels", labels)
    out = tmp_path / "out"
    run_infer(home, *given, OUT, out)
    rows = {name.split("/")[-1]: found for name, found in table_of(home).items()}
    for name, objects in objects_in(out).items():
        assert objects <= {1 + NAMES.index(each) for each in rows[name]}
    (out / names[0]).unlink()
    done = run_infer(home, *given, OUT, out, "--skip-existing")
    assert "3 of 4 images" in done.stdout and len(masks_in(out)) == 4
    # labels that have changed are seen, though no file's size has
    if write is voc_xml:
        for path in labels.iterdir():
            path.write_text(path.read_text().replace("hot dog", "hotdog "))
    else:
        (labels / "hot dog").rename(labels / "hotdog")
    line = error_of(run_infer(home, *given, OUT, out, "--skip-existing", status=2))
    assert "the labels was" in line


def test_pictures_have_the_data_sets_colours(home, tmp_path):
    palette = [[0, 0, 0], "#ff8000", [0, 90, 180], [1, 2, 3]]
    dataset = make_dataset(tmp_path / "data", palette=palette)
    run_infer(home, "--snapshot", best(home), "--dataset", dataset, OUT, tmp_path / "out")
    [mask, *_] = (tmp_path / "out").glob("*.png")
    assert Image.open(mask).getpalette()[:12] == [0, 0, 0, 255, 128, 0, 0, 90, 180, 1, 2, 3]
    written = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert written["palette"][1] == [255, 128, 0]
