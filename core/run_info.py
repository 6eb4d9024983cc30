"""How a run was made: configuration, command, commit, uncommitted changes, versions."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import torchvision
import yaml

from core.config import Config
from core.devices import describe_devices
from core.snapshot_settings import write_settings
from datasets.info import DatasetInfo
from utils.errors import UserError
from utils.files import write_text

REPOSITORY = Path(__file__).resolve().parents[1]


def write_run_info(
    folder: Path,
    config: Config,
    info: DatasetInfo,
    devices: Sequence[torch.device],
    mark: str = "",
    **facts: Any,
) -> None:
    """Write config.yaml, dataset.yaml, environment.yaml and diff.patch to `folder`.

    The first is the full configuration; the second the data set, whose path is its data root; the
    third the command, the commit, versions and machine; the fourth what has changed in the
    repository since that commit, empty if nothing has.

    Args:
        folder: of the logs or the results.
        devices: those this process uses.
        mark: added to the file names by a resumed run, which keeps the files of its earlier part.
        facts: plain values to add to environment.yaml, such as the seed.

    Raises:
        UserError: a file cannot be written.
    """
    commit, changes = _commit_and_changes()
    environment = {
        "command": shlex.join([sys.executable, *sys.argv]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "cuda": torch.version.cuda or "none",
        "device": describe_devices(devices),
        "threads": torch.get_num_threads(),
        **facts,
    }
    files = {
        f"environment{mark}.yaml": yaml.safe_dump(environment, sort_keys=False),
        f"diff{mark}.patch": changes,
    }
    write_settings(folder, config, info, mark)
    try:
        for name, text in files.items():
            write_text(folder / name, text)
    except OSError as error:
        raise UserError(f"cannot write {name} to {folder}: {error.strerror}") from error


def _commit_and_changes() -> tuple[str, str]:
    """The commit that is checked out, and what has changed since as a patch."""
    try:
        # a plain copy of the code may lie inside some other repository
        if Path(_git("rev-parse", "--show-toplevel").strip()).resolve() != REPOSITORY:
            return "unknown: not a git checkout", ""
        changes = _git("diff", "--no-color", "--no-ext-diff", "--binary", "HEAD")
        return _git("rev-parse", "HEAD").strip(), changes
    except OSError:
        return "unknown: git is not installed", ""
    except subprocess.CalledProcessError as error:
        return f"unknown: {error.stderr.decode(errors='replace').strip()}", ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(REPOSITORY), *arguments]
    done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout.decode(errors="replace")
