"""Stops, kills and resumes in every order: which snapshot is best, which are kept, what is lost."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest
import torch
from fake_training import FakeRun, KilledError, number_in

from core.checkpoint import find_snapshot, list_snapshots, snapshot_at
from core.training.checkpoint_manager import MAX_KEPT


def suffixes(run: FakeRun) -> list[str]:
    return [snapshot.suffix for snapshot in list_snapshots(run.snapshots)]


def losses_in_turn(*scores: float):
    """A loss for every number of epochs that were trained, from 0."""
    return lambda weight: 1 - scores[min(int(weight), len(scores) - 1)]


def test_extending_a_finished_run_keeps_its_best(tmp_path):
    """The last validation of a run comes after its last state."""
    # of the weights before any epoch, after one, ...
    run = FakeRun(tmp_path, loss=losses_in_turn(0.5, 0.6, 0.682, 0.6, 0.657, 0.65, 0.66))
    run.train(TRAIN__NUM_EPOCHS=1, TRAIN__VAL_INTERVAL=2)
    assert suffixes(run) == ["e000Xs0.500", "e002Xs0.682"]
    for epochs, interval in ((4, 2), (6, 1), (8, 3)):
        run.train("last", TRAIN__NUM_EPOCHS=epochs, TRAIN__VAL_INTERVAL=interval)
        assert find_snapshot(run.snapshots, "best").suffix == "e002Xs0.682"
        assert len(suffixes(run)) == 2
    # and after going back, to another branch of which nothing is better
    run.train("e000Xs0.500", TRAIN__NUM_EPOCHS=1, TRAIN__VAL_INTERVAL=1)
    assert suffixes(run) == ["e000Xs0.500", "e002Xs0.682"]


@pytest.mark.parametrize("resumed", ["last", "e000Xs0.500"])
def test_names_alone_of_earlier_versions_tell_the_best_score(tmp_path, resumed):
    run = FakeRun(tmp_path, loss=losses_in_turn(0.5, 0.6824, 0.6822, 0.6825))
    run.train(TRAIN__NUM_EPOCHS=0, TRAIN__VAL_INTERVAL=1)
    written = run.snapshots / "written.json"
    names = list(json.loads(written.read_text()))
    assert names == ["model_enc_e000Xs0.500.pth", "model_enc_e001Xs0.682.pth"]
    written.write_text(json.dumps(names))
    # rounded, 0.6822 is as good as 0.6824, and 0.6825 no better
    run.train(resumed, TRAIN__NUM_EPOCHS=2, TRAIN__VAL_INTERVAL=1)
    assert [score for kind, _, score in filter(lambda e: e[0] == "wrote", run.events)] == [
        pytest.approx(0.5),
        pytest.approx(0.6824),
        pytest.approx(0.6825),
    ]
    assert list(json.loads(written.read_text()).values())[-1] == pytest.approx(0.6825)


def test_the_best_is_not_dropped_though_it_is_the_oldest(tmp_path):
    """As a folder of an earlier version may have it."""
    run = FakeRun(tmp_path, loss=losses_in_turn(0.7, 0.4))
    run.train(TRAIN__NUM_EPOCHS=0)
    written = json.loads((run.snapshots / "written.json").read_text())
    for epoch in range(2, 8):
        name = f"model_enc_e{epoch:03d}Xs0.{epoch}00.pth"
        (run.snapshots / name).write_bytes((run.snapshots / next(iter(written))).read_bytes())
        written[name] = epoch / 10 - 0.2
    (run.snapshots / "written.json").write_text(json.dumps(written))
    run.train("last", TRAIN__NUM_EPOCHS=0)
    assert [s.epoch for s in list_snapshots(run.snapshots)] == [0, 4, 5, 6, 7]


def test_a_snapshot_of_others_counts_from_where_a_run_starts(tmp_path):
    run = FakeRun(tmp_path, loss=losses_in_turn(0.5, 0.6))
    run.train(TRAIN__NUM_EPOCHS=0)
    published = run.snapshots / "model_enc_e020Xs0.600.pth"
    published.write_bytes((run.snapshots / "model_enc_e001Xs0.600.pth").read_bytes())
    content = published.read_bytes()
    # what its name tells is rounded: 0.6004 at the same epoch is itself, and so not to be written
    run.loss = losses_in_turn(0.5, 0.6004, 0.59, 0.6003, 0.61)
    run.train("e020Xs0.600", TRAIN__NUM_EPOCHS=22, TRAIN__VAL_INTERVAL=1)
    assert [s.epoch for s in list_snapshots(run.snapshots)] == [0, 1, 20, 23]
    assert published.read_bytes() == content
    # it stays the run's, also once the run goes back to before it
    run.loss = losses_in_turn(0.5, 0.605)
    run.train("e000Xs0.500", TRAIN__NUM_EPOCHS=0)
    assert [s.epoch for s in list_snapshots(run.snapshots)] == [0, 1, 20, 23]


class SlowModel:
    """What must hold after every part of a run, worked out from all that was ever seen of it."""

    def __init__(self, run: FakeRun, foreign: Path, content: bytes) -> None:
        self.run, self.foreign, self.content = run, foreign, content
        self.scores: list[float] = []  # of all that the run has written, or has started from
        self.written: dict[Path, float] = {}

    def begins(self, resume: str, overwrite: bool) -> None:
        """A part of the run is about to start."""
        self.run.events.clear()
        self.overwrites = overwrite
        start = snapshot_at(self.foreign)
        if resume == start.suffix:
            self.scores.append(start.score)

    def check(self, clean: bool, scored_from: int) -> None:
        if self.overwrites and self.run.events:  # else it was killed before it began
            self.scores, self.written = [], {}
        pending = None  # the validated epoch and score that must be written
        for event in self.run.events:
            if event[0] == "wrote":
                assert pending is not None, (event, self.scores)
                _, path, score = event
                assert snapshot_at(path).epoch == pending[0] and score == pending[1]
                self.scores.append(score)
                self.written.pop(path, None)
                self.written[path] = score
                pending = None
                continue
            assert pending is None, (pending, self.scores)
            if event[0] != "validated" or event[1] < scored_from:
                continue
            _, epoch, score = event
            if score > max(self.scores, default=-math.inf):
                name = f"model_enc_e{epoch:03d}Xs{score:.3f}.pth"
                if name == self.foreign.name:
                    self.scores.append(score)
                else:
                    pending = epoch, score
        assert pending is None or not clean
        self._check_files(clean)

    def _check_files(self, clean: bool) -> None:
        folder = self.run.snapshots
        assert self.foreign.read_bytes() == self.content
        there = {s.path for s in list_snapshots(folder)} - {self.foreign}
        assert there <= self.written.keys()
        newest = list(self.written)[-MAX_KEPT:]
        # a killed run may not have come to dropping the oldest
        assert set(newest) <= there and len(there) <= MAX_KEPT + (not clean)
        if self.written:
            best = max(self.written.values())
            kept = [path for path, score in self.written.items() if score == best]
            assert kept[-1] in there
        for path in there:
            assert f"{1 - self.run.loss(number_in(path)):.3f}" == f"{snapshot_at(path).score:.3f}"


@pytest.mark.parametrize("seed", range(3))
def test_random_orders_of_stops_kills_and_resumes(tmp_path, seed):
    chance = random.Random(seed)
    for walk in range(4):
        table = [0.3 + 0.0003 * chance.randrange(40) for _ in range(97)]
        run = FakeRun(
            tmp_path / str(walk),
            step=lambda weight, epoch, rate: (7 * weight + 3 * epoch + round(1000 * rate)) % 97,
            loss=lambda weight, table=table: table[int(weight)],
        )
        foreign = run.snapshots / f"model_enc_e003Xs{1 - table[5]:.3f}.pth"
        donor = FakeRun(tmp_path / f"{walk}.donor", step=lambda *_: 5.0, loss=run.loss)
        donor.train(TRAIN__NUM_EPOCHS=0)
        content = _snapshot_of(donor, tmp_path / "content")
        foreign.parent.mkdir(parents=True)
        foreign.write_bytes(content)
        walk_at_random(run, SlowModel(run, foreign, content), chance)


def _snapshot_of(donor: FakeRun, path: Path) -> bytes:
    model = torch.load(donor.snapshots / "last.pth", weights_only=True)["model"]
    torch.save(model, path)
    return path.read_bytes()


def walk_at_random(run: FakeRun, model: SlowModel, chance: random.Random) -> None:
    settings = {"TRAIN__PRETRAIN": chance.randrange(3), "TRAIN__VAL_INTERVAL": chance.randint(1, 3)}
    # the foreign snapshot is there from the start
    resume, overwrite, epochs = "", True, chance.randrange(2, 5)
    for _ in range(8):
        model.begins(resume, overwrite)
        run.kill_after = chance.choice([None, chance.randrange(14), chance.randrange(60)])
        try:
            run.train(resume, overwrite=overwrite, TRAIN__NUM_EPOCHS=epochs, **settings)
            clean = True
        except KilledError:
            clean = False
        run.kill_after = None
        states = [name for name in ("last", "previous") if (run.snapshots / f"{name}.pth").exists()]
        if not states:
            # killed in the first epoch, or while it discarded an earlier run
            assert not clean and not any(event[0] == "wrote" for event in run.events)
            resume, overwrite = "", True
            continue
        model.check(clean, settings["TRAIN__PRETRAIN"])

        overwrite = chance.random() < 0.1
        words = ["auto", "auto", "last", *states, *suffixes(run)]
        resume = "" if overwrite else chance.choice(words)
        epochs += chance.randrange(2)
        # enough for any start
        if resume not in ("", "auto", "last", "previous"):
            epochs = max(epochs, find_snapshot(run.snapshots, resume).epoch)
        settings["NET__LR"] = chance.choice([0.001, 0.002])
