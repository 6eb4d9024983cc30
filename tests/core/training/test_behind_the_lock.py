"""Commands that work in one folder take turns, and look at what is there when theirs has come."""

from __future__ import annotations

import shutil
from contextlib import ExitStack

import pytest
from fake_training import CPU, FakeRun
from inference_command import infer, make_workplace, refusal, words_of

import core.training.run
import infer_val
import utils.files
from core.config import load_config
from core.distributed import Group
from core.inference.run import run_inference
from core.inference.segmenter import Segmenter
from core.training.run import TrainingRun
from datasets.lists import ListEntry
from datasets.mini_voc.generate import MiniVocSettings, generate
from datasets.voc import PASCAL_VOC
from utils.errors import UserError
from utils.files import only_process


@pytest.fixture
def meanwhile(monkeypatch):
    """Holds the lock on a folder, and does something there and lets it go once that is waited for.

    Called as `meanwhile(folder, something)`.
    """
    lock = ExitStack()

    def hold(folder, something):
        lock.enter_context(only_process(folder))

        def happens(_seconds):
            something()
            lock.close()

        monkeypatch.setattr(utils.files.time, "sleep", happens)

    with lock:
        yield hold


def test_a_run_that_was_waited_for_is_not_trained_over(tmp_path, meanwhile):
    earlier, run = FakeRun(tmp_path / "earlier"), FakeRun(tmp_path / "run", patience=60)
    earlier.train(TRAIN__NUM_EPOCHS=0)

    def ends():
        shutil.copytree(earlier.snapshots, run.snapshots, dirs_exist_ok=True)

    meanwhile(run.snapshots, ends)
    with pytest.raises(UserError, match=r"already holds a run \(e000Xs0.500, last\)"):
        run.train(TRAIN__NUM_EPOCHS=1)
    assert run.events == []
    shutil.rmtree(run.snapshots)
    meanwhile(run.snapshots, ends)
    run.train("auto", TRAIN__NUM_EPOCHS=1)
    assert [event[:2] for event in run.events] == [("trained", 1), ("validated", 2)]


def test_a_run_that_is_refused_changes_nothing(tmp_path):
    run = FakeRun(tmp_path / "new/place")
    with pytest.raises(UserError, match="no snapshot would be saved"):
        run.train(TRAIN__NUM_EPOCHS=0, TRAIN__PRETRAIN=9)
    assert list(tmp_path.iterdir()) == []

    def no_objects(*_):
        raise UserError("no image has an object")

    run.read_labels = no_objects
    with pytest.raises(UserError, match="no image"):
        run.train(TRAIN__NUM_EPOCHS=0)
    assert list(tmp_path.iterdir()) == []
    run.read_labels = lambda *_: None
    run.train(TRAIN__NUM_EPOCHS=0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    shutil.rmtree(run.folder / "logs")
    with only_process(run.snapshots), pytest.raises(UserError, match="another training run"):
        run.train(overwrite=True, TRAIN__NUM_EPOCHS=1)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    assert not (run.folder / "logs").exists()


class Second(Group):
    """The other process of two, for which the main one answers."""

    def __init__(self, *answers: object) -> None:
        super().__init__(rank=1, size=2)
        object.__setattr__(self, "answers", list(answers))

    def gather(self, value):
        return [self.answers.pop(0), value]


def test_other_processes_look_once_the_main_one_has_the_lock(tmp_path, monkeypatch):
    def look(*_):
        raise UserError(f"{group.answers}")

    monkeypatch.setattr(core.training.run, "find_start", look)
    group = Second(True, "not asked for yet")
    place = (tmp_path / "s", tmp_path / "l", "", False, 64, CPU)
    with pytest.raises(UserError, match=r"^.'not asked for yet'.$"):
        TrainingRun(load_config(), PASCAL_VOC, *place, group).run()
    # the main one was refused: the others end without a word, and without a look
    with pytest.raises(SystemExit) as end:
        TrainingRun(load_config(), PASCAL_VOC, *place, Second(False)).run()
    assert end.value.code == 0
    assert list(tmp_path.iterdir()) == []


def test_the_snapshot_of_inference_is_the_main_processes(tmp_path, monkeypatch):
    """Another's may be another best one, of a run that trains meanwhile."""

    def from_snapshot(path, *_):
        raise UserError(f"loads {path.name}")

    monkeypatch.setattr(Segmenter, "from_snapshot", from_snapshot)
    monkeypatch.chdir(make_workplace(tmp_path, 1))
    args = infer_val.parse_args(words_of(tmp_path / "out", ()))
    entries = [ListEntry(tmp_path / "a.jpg", None)]
    group = Second(True, "off", (entries, tmp_path / "sooner.pth"), True)
    with pytest.raises(UserError, match=r"^loads sooner\.pth$"):
        run_inference(args, group, CPU)
    # machines on which `auto` differs make no masks together
    monkeypatch.setattr("core.devices.CPU_FILE", tmp_path / "tells nothing")
    args.set += ["TEST.AMP", "auto"]
    group = Second(True, "bf16", True)
    with pytest.raises(UserError, match=r"TEST\.AMP is bf16 and off"):
        run_inference(args, group, CPU)
    assert list((tmp_path / "out").iterdir()) == []


def test_inference_that_is_refused_changes_nothing(tmp_path):
    place, out = make_workplace(tmp_path, 1), tmp_path / "out"
    with only_process(out):
        message = refusal(infer(place, out, "--save-probabilities", status=2))
    assert "another inference is at work on" in message
    assert list(out.iterdir()) == []


def test_mini_voc_is_not_drawn_twice_at_once(tmp_path):
    out = tmp_path / "mini"
    with only_process(out), pytest.raises(UserError, match=r"another datasets\.mini_voc"):
        generate(out, MiniVocSettings(train=20, val=20))
    assert list(out.iterdir()) == []


def test_a_folder_that_was_removed_meanwhile_is_locked_anew(tmp_path, meanwhile):
    folder = tmp_path / "run"
    meanwhile(folder, folder.rmdir)
    with only_process(folder, patience=60), pytest.raises(UserError), only_process(folder):
        pass
    assert folder.is_dir()
