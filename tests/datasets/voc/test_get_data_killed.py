"""launch/get_data.sh killed at any moment, and run again."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from get_data_case import (
    SBD,
    SBD_SOURCE,
    VOC_SOURCE,
    assert_done,
    command,
    get_data,
    tree,
)


@pytest.mark.slow
def test_killed_at_every_stage_it_ends_with_the_same_tree(ready, server, mirror, tmp_path):
    root = tmp_path / "data"
    server.bytes_per_second = 200_000
    chance = random.Random(3)
    moments = moments_of(root, {name: file.stat().st_size for name, file in server.files.items()})
    killed = [
        name
        for name, has_come in moments.items()
        if kill_at(has_come, chance.choice((0, 0, 0.003, 0.03)), command(root, **mirror))
    ]
    # a stage of milliseconds may be over before it is seen
    assert len(killed) > len(moments) / 2, killed
    server.bytes_per_second = None
    assert_done(get_data(root, **mirror))
    assert tree(root) == tree(ready)


def moments_of(root: Path, sizes: dict[str, int]) -> dict[str, Callable[[], bool]]:
    """Ways to ask whether a run has come to each of its stages, in their order."""

    def has_come(source, share):
        part = root / ".downloads" / f"{source.filename}.part"
        return lambda: size_of(part) > share * sizes[source.filename]

    def has(path):
        return (root / path).exists

    return {
        "VOC begins to come": has_come(VOC_SOURCE, 0),
        "half of VOC has come": has_come(VOC_SOURCE, 0.5),
        "VOC is being unpacked": has(".unpacking/voc/VOCdevkit"),
        "VOC is in place": has("voc"),
        "SBD begins to come": has_come(SBD_SOURCE, 0),
        "half of SBD has come": has_come(SBD_SOURCE, 0.5),
        "SBD is being unpacked": has(".unpacking/sbd/benchmark_RELEASE"),
        "SBD is in place": has("sbd"),
        "masks are being converted": has(SBD / "cls_png"),
        "half of the masks are converted": lambda: (
            len(list((root / SBD / "cls_png").glob("*"))) > 20
        ),
        "lists are being written": has("train_voc.txt"),
        "everything is being checked": has("train_augvoc.txt"),
    }


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def kill_at(has_come: Callable[[], bool], later: float, script: dict) -> bool:
    """Kill the command `later` seconds after the moment; False if it had ended by then."""
    with subprocess.Popen(
        **script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        while not has_come() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(later)
        if process.poll() is not None:
            return False
        os.killpg(process.pid, signal.SIGKILL)
        return True
