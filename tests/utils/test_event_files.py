"""TensorBoard's files on a disk that takes no more, and in folders it cannot name."""

import errno
import os
from pathlib import Path

import pytest
from tensorboard.compat.tensorflow_stub.io import gfile

from utils.errors import UserError
from utils.event_files import EventWriter
from utils.files import require_utf_8


def test_a_full_disk_is_said_by_the_caller_alone_and_names_the_folder(tmp_path, monkeypatch, capfd):
    def fails(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = EventWriter(tmp_path)
    monkeypatch.setattr(gfile.LocalFileSystem, "append", fails)
    with pytest.raises(OSError, match="No space left on device: ") as raised:
        for step in range(1000):
            writer.add_scalar("tag", 1.0, step)
            writer.flush()
    assert raised.value.filename == str(tmp_path)
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_whose_name_is_no_text_is_refused():
    require_utf_8(Path("grün"), "--logdir")
    with pytest.raises(UserError, match="--logdir"):
        require_utf_8(Path(os.fsdecode(b"\xff")), "--logdir")
