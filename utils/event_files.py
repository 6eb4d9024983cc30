"""TensorBoard's event files, which a background thread writes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from utils.files import named_in_errors


class EventWriter(SummaryWriter):
    """A `SummaryWriter` whose errors name its folder, and are raised in the caller only."""

    def __init__(self, folder: Path, **options: Any) -> None:
        threading.excepthook = _without_those_of_writers
        self.folder = folder
        super().__init__(str(folder), **options)

    def add_scalar(self, *args: Any, **options: Any) -> None:
        with named_in_errors(self.folder):
            super().add_scalar(*args, **options)

    def add_image(self, *args: Any, **options: Any) -> None:
        with named_in_errors(self.folder):
            super().add_image(*args, **options)

    def flush(self) -> None:
        with named_in_errors(self.folder):
            super().flush()

    def close(self) -> None:
        with named_in_errors(self.folder):
            super().close()


def _without_those_of_writers(args: threading.ExceptHookArgs) -> None:
    # the writer raises it again in its caller; here it would be a traceback, and the same twice
    if not (isinstance(args.exc_value, OSError) and hasattr(args.thread, "_record_writer")):
        threading.__excepthook__(args)
