"""Weights files as others wrote them: wrapped, with prefixes, or something else altogether."""

from __future__ import annotations

import codecs
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from utils.errors import UserError

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""What files call a state dict that they hold beside other things; our own last.pth, `model`."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put in front of the names of all entries."""

STATE_DICT_ALONE = "save the network's state_dict alone: torch.save(network.state_dict(), FILE)"
_HEAD = 512
_ARCHIVES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z"}
_OBJECT = re.compile(r"GLOBAL (\S+)")
_NO_NUMBER = re.compile(r"NumPy's (\S+) is no number")
# of a part that was compiled by itself
_INNER = re.compile(r"(?<=\.)_orig_mod\.")


def torch_load(file: BinaryIO) -> Any:
    """`torch.load` of tensors, plain values and NumPy's numbers onto the CPU; it runs no code."""
    with _numpy_numbers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a file might be; `identify` says what it is
        return torch.load(file, map_location="cpu", weights_only=True)


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is one of safetensors: a length of 8 bytes, then JSON."""
    return head[8:10] == b'{"'


def safetensors_load(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file of safetensors, on the CPU.

    Raises:
        UserError: safetensors is not installed.
    """
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        if error.name not in ("safetensors", "safetensors.torch"):
            raise
        raise UserError(
            f"{path} takes safetensors to read; install it with `pip install safetensors`"
        ) from error
    return load_file(path)


def unwrap(content: Any) -> tuple[Any, str]:
    """What is plainly a state dict, from what it is wrapped in and with the names it began with.

    Returns:
        It, or else the content; and words on what was taken off, which follow `loaded`.
    """
    notes = []
    while isinstance(content, Mapping):
        found = [name for name in WRAPPERS if isinstance(content.get(name), Mapping)]
        found = found or [name for name, value in content.items() if _is_state(value)]
        if len(found) != 1:
            break
        content = content[found[0]]
        notes.append(f" from its {found[0]!r}")
    taken = ""
    if isinstance(content, Mapping):
        content = {str(name): value for name, value in content.items()}
        while prefix := _common_prefix(content):
            content = {name.removeprefix(prefix): value for name, value in content.items()}
            taken += prefix
        if taken:
            notes.append(f" without the prefix {taken}")
        plain = {_INNER.sub("", name): value for name, value in content.items()}
        # names that become one would be guesswork
        if len(plain) == len(content) and plain.keys() != content.keys():
            content = plain
            notes.append(" without _orig_mod. in names")
    return content, "".join(notes)


def _is_state(value: Any) -> bool:
    """Whether a value is plainly a state dict, whatever it is called."""
    is_filled = isinstance(value, Mapping) and len(value) > 0
    return is_filled and all(isinstance(each, torch.Tensor) for each in value.values())


def _common_prefix(state: Mapping[str, Any]) -> str:
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return prefix
    return ""


def identify(path: Path, error: Exception) -> tuple[str, str]:
    """What a file is that `torch_load` could not read, from its content and the error.

    Returns:
        The fault, as the end of a sentence that begins with the file, and the remedy.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if not head:
        return "is no weights file, it is empty", "fetch or write it anew"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "is no weights file but a web page", "open it, and download the file behind it"
    if text.startswith(b"version https://git-lfs"):
        return "is no weights file but a Git LFS pointer", "`git lfs pull` where it is from gets it"
    if _is_text(head):
        return "is no weights file but text", "read it, it may say why; then fetch the file anew"
    if is_safetensors(head):
        return "is a damaged safetensors file", "fetch or write it anew"
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            return f"is no weights file but {kind} data", "unpack it, and name what is in it"
    if members := _members(path):
        if any(name.endswith("/constants.pkl") for name in members):
            remedy = "torch.save(torch.jit.load(FILE).state_dict(), OTHER) makes one of it"
            return "is no weights file but a TorchScript program", remedy
        if not any(name.endswith("data.pkl") for name in members):
            return "is no weights file but a ZIP archive", "unpack it, and name what is in it"
    elif head[257:262] == b"ustar":
        return "is no weights file but a tar archive", "unpack it, and name what is in it"
    outermost, classes = _classes(path)
    if (found := _OBJECT.search(str(error))) and found[1] in classes:
        if found[1] == outermost:
            return f"is no weights file but a whole object, pickled ({outermost})", STATE_DICT_ALONE
        return f"holds more than weights, {found[1]}, which is not loaded", STATE_DICT_ALONE
    if (found := _NO_NUMBER.search(str(error))) and any(
        name.endswith(".multiarray.scalar") for name in classes
    ):
        return f"holds more than weights, NumPy's {found[1]}, which is not loaded", STATE_DICT_ALONE
    fault = f"is no weights file, or it is damaged ({type(error).__name__})"
    return fault, "fetch or write it anew"


def _is_text(head: bytes) -> bool:
    try:
        # the last character may be cut off
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)


def _members(path: Path) -> list[str]:
    """What is in a ZIP file; nothing for others, and for one that is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # whatever damaged bytes lead to
        return []


def _classes(path: Path) -> tuple[str | None, set[str]]:
    """The class of the object that a file of `torch.save` holds, and all that are in the object.

    None for a plain container, and nothing for a file that is damaged.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                [name] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
                operations = list(pickletools.genops(archive.read(name)))
        else:
            with path.open("rb") as file:
                # in old files the object comes fourth, behind two numbers and the machine's ways
                for _ in range(4):
                    operations = list(pickletools.genops(file))
    except Exception:  # whatever damaged bytes lead to
        return None, set()
    # what old files say of a network goes before it: ("module", its class, ...)
    before = {"PROTO", "MARK", "BINUNICODE", "BINPUT"}
    names = {
        place: str(argument).replace(" ", ".")
        for place, (code, argument, _) in enumerate(operations)
        if code.name == "GLOBAL"
    }
    first = next(place for place, (code, *_) in enumerate(operations) if code.name not in before)
    return names.get(first), set(names.values())


def _numpy_numbers() -> AbstractContextManager[Any]:
    """Let `torch.load` read NumPy's numbers, which training scripts keep beside the weights."""
    allowed = [_DType, *_SCALARS]
    if hasattr(torch.serialization, "safe_globals"):
        return torch.serialization.safe_globals(allowed)
    torch.serialization.add_safe_globals(allowed)  # PyTorch 2.4
    return nullcontext()


class _DType:
    """Stands in for numpy.dtype, of which only those of numbers are made."""

    def __init__(self, name: str, *_: object) -> None:
        self.name = name
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


def _scalar(kind: _DType, data: bytes) -> Any:
    dtype = np.dtype(kind.name).newbyteorder(kind.order)
    if dtype.kind not in "biufc":
        raise pickle.UnpicklingError(f"NumPy's {dtype} is no number")
    return np.frombuffer(data, dtype, count=1)[0].item()


def _named(function: Any, module: str, name: str) -> Any:
    function.__module__, function.__name__, function.__qualname__ = module, name, name
    return function


_named(_DType, "numpy", "dtype")
# NumPy 1 and 2 call the module of its function otherwise
_SCALARS = [
    _named(lambda kind, data: _scalar(kind, data), f"numpy.{core}.multiarray", "scalar")
    for core in ("core", "_core")
]
