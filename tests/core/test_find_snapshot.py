"""Which files of a run's folder are snapshots, and which of them is meant."""

import pytest

from core.checkpoint import find_snapshot, snapshot_path
from utils.errors import UserError


def message(folder, suffix):
    """The line that an unknown suffix ends with."""
    with pytest.raises(UserError) as error:
        find_snapshot(folder, suffix)
    return str(error.value)


@pytest.fixture
def run(tmp_path):
    """A run's folder, and a way to put (empty) files there."""

    def put(*names):
        for name in names:
            (tmp_path / name).touch()
        return tmp_path

    return put


def test_snapshot_names(tmp_path):
    names = [(20, 0.928), (0, -0.1234), (1000, 1), (7, 0.0004)]
    assert [snapshot_path(tmp_path, *pair).name for pair in names] == [
        "model_enc_e020Xs0.928.pth",
        "model_enc_e000Xs-0.123.pth",
        "model_enc_e1000Xs1.000.pth",
        "model_enc_e007Xs0.000.pth",
    ]


@pytest.mark.parametrize(("epoch", "score"), [(20, 0.928), (0, -0.123), (1000, -12.5), (3, -0.0)])
def test_a_snapshot_is_found_by_its_suffix(run, epoch, score):
    path = snapshot_path(run("model_enc_e004Xs0.500.pth"), epoch, score)
    path.touch()
    suffix = path.stem.removeprefix("model_enc_")
    found = find_snapshot(path.parent, suffix)
    assert (found.path, found.suffix, found.epoch, found.score) == (path, suffix, epoch, score)
    assert found.optimizer_path == path.parent / f"opt_enc_{suffix}.pth"


@pytest.mark.parametrize(
    ("suffixes", "best"),
    [
        (["e002Xs0.500", "e004Xs0.900", "e006Xs0.700"], "e004Xs0.900"),
        (["e002Xs-0.500", "e004Xs-0.123", "e006Xs-1.700"], "e004Xs-0.123"),
        (["e002Xs0.010", "e004Xs-0.900"], "e002Xs0.010"),
        (["e998Xs0.500", "e1000Xs0.500", "e002Xs0.400"], "e1000Xs0.500"),
        (["e002Xs9.000", "e004Xs10.000"], "e004Xs10.000"),
    ],
)
def test_best_is_the_highest_score_and_the_latest_of_equals(run, suffixes, best):
    folder = run(*(f"model_enc_{suffix}.pth" for suffix in suffixes))
    assert find_snapshot(folder, "best").suffix == best


UNRELATED = [
    "opt_enc_e009Xs0.999.pth",
    ".model_enc_e009Xs0.999.x1.pth",
    "model_enc_e009Xs0.999.pth.part",
    "model_enc_e09Xs0.999.pth",
    "model_enc_e009Xs0.99.pth",
    "model_enc_e009Xsnan.pth",
    "model_enc_best.pth",
    "model_enc_.pth",
]


def test_unrelated_files_are_no_snapshots(run):
    folder = run(*UNRELATED)
    assert "there are no snapshots in" in message(folder, "best")
    run("model_enc_e002Xs0.500.pth")
    assert find_snapshot(folder, "best").epoch == 2


@pytest.mark.parametrize("suffix", ["e003Xs0.500", "", "2", "model_enc_e002Xs0.500", "Best"])
def test_an_unknown_suffix_lists_those_that_exist(run, suffix):
    folder = run("model_enc_e1002Xs0.500.pth", "model_enc_e004Xs-0.100.pth", *UNRELATED)
    line = message(folder, suffix)
    assert line.endswith(f"{folder}; there are: e004Xs-0.100, e1002Xs0.500 (or `best`)")
    assert f"--resume {suffix or '(nothing)'}:" in line


@pytest.mark.parametrize("suffix", ["best", "e002Xs0.500"])
def test_an_empty_or_missing_folder(tmp_path, suffix):
    for folder in (tmp_path, tmp_path / "none"):
        line = message(folder, suffix)
        assert line.startswith(
            f"--resume {suffix}: there are no snapshots in {folder}; train first"
        )
        assert "`bash launch/get_weights.sh snapshot`" in line
