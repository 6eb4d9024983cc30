"""Whether PyTorch can compile here."""

from __future__ import annotations

import torch

from utils.errors import UserError


def require_compiler(key: str, device: torch.device) -> None:
    """Compile something small, for what is missing shows only when the network is to run.

    Args:
        key: of the configuration, that asks for it.

    Raises:
        UserError: PyTorch cannot compile.
    """
    try:
        torch.compile(lambda x: x.sin() + 1)(torch.ones(64, device=device))
    except Exception as error:  # of many kinds, none of them documented
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{key}: PyTorch {torch.__version__} cannot compile for {device.type} ({reason}); "
            "install a C++ compiler (g++) and Python's headers, or leave the key out"
        ) from error
