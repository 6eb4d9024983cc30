"""What a later reader needs to know of a run: configuration, command, commit, versions."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import torch
import torchvision
import yaml

from core.config import Config
from utils.files import write_text

REPOSITORY = Path(__file__).resolve().parents[2]


def record_run(folder: Path, config: Config, seed: int, device: torch.device, start: int) -> None:
    """Write config.yaml and environment.yaml to a run's log folder.

    A run that is resumed at epoch `start` keeps the first ones and adds config_eEEE.yaml and
    environment_eEEE.yaml.
    """
    mark = f"_e{start:03d}" if start else ""
    write_text(folder / f"config{mark}.yaml", config.to_yaml())
    environment = {
        "command": sys.argv,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": seed,
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": _git("status", "--porcelain").splitlines(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "cuda": torch.version.cuda or "none",
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
    }
    write_text(folder / f"environment{mark}.yaml", yaml.safe_dump(environment, sort_keys=False))


def _git(*arguments: str) -> str:
    """What git says of this repository; "unknown" where there is none, as in a plain archive."""
    try:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        count = torch.cuda.device_count()
        return ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    return f"{device.type} ({platform.processor() or platform.machine()})"
