"""Training and inference ask whether a list's files are there before they open any."""

import shutil
from pathlib import Path

import pytest
import torch

from core.config import InferenceConfig, load_config
from core.distributed import SINGLE
from core.inference.samples import check_samples
from core.training.data import require_listed_files, training_batches, validation_batches
from datasets.lists import ListEntry, read_list
from datasets.voc import PASCAL_VOC
from utils.errors import MissingError, UserError

MINI = Path(__file__).parents[2] / "configs" / "mini_resnet50.yaml"
CPU = torch.device("cpu")


@pytest.fixture
def root(mini_voc, tmp_path):
    """Lists of data that is gone."""
    for path in mini_voc.glob("*.txt"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_training(root):
    config = load_config(MINI, ["DATASET.PATH", str(root)])
    training = training_batches(config, PASCAL_VOC, 0, CPU, SINGLE)
    entries = training.samples.entries
    validation = validation_batches(config, PASCAL_VOC, entries, CPU, SINGLE)
    batches = [training, *validation.values()]
    first = read_list(root / PASCAL_VOC.train_list, root)[0].image
    with pytest.raises(MissingError, match=f"image {first} does not exist, nor do ") as caught:
        require_listed_files(batches, config, PASCAL_VOC)
    assert rf"DATA_ROOT={root} bash launch/get_data.sh" in str(caught.value)
    entries = {entry for each in batches for entry in each.samples.entries}
    files = {str(path) for entry in entries for path in (entry.image, entry.mask)}
    assert {*caught.value.names} == files and len(files) >= 120
    (root / "voc").mkdir()  # so that some of it is there
    with pytest.raises(UserError, match=f"datasets.prepare --root {root} --check"):
        require_listed_files(batches, config, PASCAL_VOC)


def test_inference(tmp_path):
    broken, gone = tmp_path / "broken.jpg", tmp_path / "gone.jpg"
    broken.touch()
    with pytest.raises(UserError, match=f"image {gone} does not exist of the 2 files"):
        entries = [ListEntry(broken, None), ListEntry(gone, None)]
        check_samples(entries, InferenceConfig(), 1, tmp_path, PASCAL_VOC)
