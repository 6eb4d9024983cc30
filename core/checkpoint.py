"""Weights on disk: snapshots in the published layout, and ImageNet weights.

A snapshot `model_enc_eEEEXsS.SSS.pth` is a plain dictionary of tensors under the published names
(see `core.published`). `EEE` is the epoch that is trained next, `S.SSS` the score: 1 − the mean
loss on the `val` list. The optimizer's state lies beside it in `opt_enc_eEEEXsS.SSS.pth`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.foreign_weights import (
    identify,
    is_safetensors,
    safetensors_load,
    torch_load,
    unwrap,
)
from core.published import class_entries, own_state, published_state
from core.weights_check import (
    Architecture,
    WeightsError,
    describe_misfit,
    require_finite,
    require_match,
    require_tensors,
)
from models.backbones.spec import BackboneSpec, ConversionError
from models.network import Network
from utils.errors import UserError
from utils.files import atomic_path

IMAGENET_CLASSES = 1000
OWN_WEIGHTS = "timm"
"""What NET.PRE_WEIGHTS_PATH says for the weights that timm itself has for its models."""

_SUFFIX = re.compile(r"e(\d{3,})Xs(-?\d+\.\d{3})")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that exists on disk."""

    path: Path
    suffix: str
    epoch: int
    score: float

    @property
    def optimizer_path(self) -> Path:
        """Where the optimizer's state belongs; a published snapshot has none."""
        return optimizer_path(self.path)


def optimizer_path(model_path: Path) -> Path:
    """Where the optimizer's state that belongs to a model file lies."""
    return model_path.with_name(model_path.name.replace("model_enc_", "opt_enc_", 1))


def snapshot_path(folder: Path, epoch: int, score: float) -> Path:
    """The model file's path of a snapshot taken before `epoch` was trained."""
    return folder / f"model_enc_e{epoch:03d}Xs{score:.3f}.pth"


def list_snapshots(folder: Path) -> list[Snapshot]:
    """The snapshots in `folder` by epoch; none if there is no such folder."""
    found = [snapshot_at(path) for path in sorted(folder.glob("model_enc_*.pth"))]
    snapshots = [snapshot for snapshot in found if snapshot]
    return sorted(snapshots, key=lambda snapshot: (snapshot.epoch, snapshot.score))


def snapshot_at(path: Path) -> Snapshot | None:
    """What a model file's name tells; None where it is not a snapshot's."""
    suffix = path.stem.removeprefix("model_enc_")
    match = _SUFFIX.fullmatch(suffix)
    return Snapshot(path, suffix, int(match[1]), float(match[2])) if match else None


def find_snapshot(folder: Path, suffix: str) -> Snapshot:
    """The snapshot with `suffix` (e020Xs0.928), or for `best` the highest score, latest of equals.

    Raises:
        UserError: there is none; the message lists those that exist.
    """
    snapshots = list_snapshots(folder)
    if not snapshots:
        raise UserError(
            f"--resume {suffix}: there are no snapshots in {folder}; train first, name another run "
            "with EXP and RUN_ID (--exp, --run), or run `bash launch/get_weights.sh snapshot`"
        )
    if suffix == "best":
        return max(snapshots, key=lambda snapshot: (snapshot.score, snapshot.epoch))
    for snapshot in snapshots:
        if snapshot.suffix == suffix:
            return snapshot
    existing = ", ".join(snapshot.suffix for snapshot in snapshots)
    raise UserError(
        f"--resume {suffix or '(nothing)'}: no such snapshot in {folder}; "
        f"there are: {existing} (or `best`)"
    )


def save_model(model: Network, path: str | Path) -> None:
    """Write the model's weights to `path` in the published layout, on the CPU, in one step.

    Raises:
        UserError: the file cannot be written; an earlier one stays as it was.
    """
    save_file(snapshot_content(model), path)


def snapshot_content(model: Network) -> dict[str, Tensor]:
    """What a snapshot holds: the weights under their published names, on the CPU."""
    return {name: tensor.cpu().contiguous() for name, tensor in published_state(model).items()}


def load_model(model: Network, path: str | Path) -> str:
    """Load a snapshot, published or ours, into the model; every entry must match.

    Returns:
        A line that says what was loaded.

    Raises:
        UserError: the file is missing, is no weights file, or is of another network.
    """
    state, unwrapped = _read(path)
    load_state(model, state, path)
    return f"{path}: all {len(state)} entries loaded{unwrapped}"


def load_state(model: Network, state: dict[str, Tensor], path: str | Path) -> None:
    """Load weights under published names that come from the file at `path`.

    Raises:
        UserError: they are of another network.
    """
    _require_snapshot_of(model, state, path)
    model.load_state_dict(own_state(model, state))


def read_snapshot(model: Network, path: str | Path) -> dict[str, Tensor]:
    """The entries of a snapshot, by their published names, if they are those of the model.

    Raises:
        UserError: as `load_model`.
    """
    state = read_weights(path)
    _require_snapshot_of(model, state, path)
    return state


def load_all_but_classes(model: Network, path: str | Path) -> str:
    """Load a snapshot of whatever classes into the model, whose class layer stays as it is.

    All entries but the class layer's must match.

    Returns:
        A line that says what was loaded and what was left out.

    Raises:
        UserError: the file is missing, is no weights file, or is of another network.
    """
    if not Path(path).is_file():
        raise UserError(
            f"--init-from {path} is no file; name a snapshot, as model_enc_e020Xs0.928.pth"
        )
    state, unwrapped = _read(path)
    class_layer = class_entries(model)
    kept = {name: tensor for name, tensor in state.items() if name not in class_layer}
    _require_snapshot_of(model, kept, path, but=class_layer)
    model.load_state_dict(own_state(model, published_state(model) | kept))
    left_out = [name for name in state if name in class_layer]
    return (
        f"{path}: {len(kept)} entries loaded{unwrapped}; left out: {', '.join(left_out) or 'none'}"
    )


def load_pretrained(model: Network, spec: BackboneSpec, path: str | Path) -> str:
    """Load ImageNet weights into the model's backbone.

    The file's classifier layers are left out, and BatchNorm's batch counters, which old files
    lack, are not demanded; all else must match. A package's backbone takes its own weights where
    `path` is the package's name, `timm`.

    Returns:
        A line that says what was loaded and what was left out.

    Raises:
        UserError: the file is missing (the message says how to get it), is no weights file, or is
            of another network.
    """
    if spec.convert and str(path) == OWN_WEIGHTS:
        state = spec.convert(None)
        model.backbone.load_state_dict(state)
        return f"{len(state)} entries of {spec.name}'s own weights loaded"
    if Path(path).is_dir():
        raise UserError(
            f"NET.PRE_WEIGHTS_PATH {path} is a directory; name the file; {how_to_get(spec)}"
        )
    if not Path(path).is_file():
        raise UserError(
            f"the ImageNet weights {path} (NET.PRE_WEIGHTS_PATH) do not exist; "
            f"{how_to_get(spec)}; or train from scratch with --set "
            'NET.FREEZE_BN False NET.PRE_WEIGHTS_PATH ""'
        )
    state, left_out, unwrapped = read_pretrained(model.backbone, spec, path)
    counters = {
        name: torch.zeros_like(tensor)
        for name, tensor in model.backbone.state_dict().items()
        if name not in state
    }
    model.backbone.load_state_dict(state | counters)
    anew = ", BatchNorm counters set anew" if counters else ""
    return (
        f"{path}: {len(state)} entries loaded{unwrapped}{anew}; left out: "
        f"{', '.join(left_out) or 'none'}"
    )


def read_pretrained(
    backbone: nn.Module, spec: BackboneSpec, path: str | Path
) -> tuple[dict[str, Tensor], list[str], str]:
    """The entries of ImageNet weights for the backbone, the names of those left out, and words on
    what was taken off (see `unwrap`).

    BatchNorm's batch counters are among them only if the file has them.

    Raises:
        UserError: as `load_pretrained`.
    """
    state, unwrapped = _read(path)
    if spec.convert:
        return _converted(state, spec, path), [], unwrapped
    expected = backbone.state_dict()
    left_out = [
        name
        for name, tensor in state.items()
        if name.startswith(spec.ignored_weights)
        # converted files differ in what they call the classifier, not in its number of classes
        or (name not in expected and tensor.shape[:1] == (IMAGENET_CLASSES,))
    ]
    kept = {name: tensor for name, tensor in state.items() if name not in left_out}
    demanded = {
        name: tensor
        for name, tensor in expected.items()
        if name in kept or not name.endswith("num_batches_tracked")
    }
    require_match(path, kept, demanded, Architecture(spec.name), how_to_get(spec))
    return kept, left_out, unwrapped


def _converted(state: dict[str, Tensor], spec: BackboneSpec, path: str | Path) -> dict[str, Tensor]:
    try:
        converted = spec.convert(state)
    except ConversionError as error:
        needed = Architecture(spec.name)
        fault = describe_misfit(state, needed, str(error))
        raise WeightsError(path, fault, how_to_get(spec)) from error
    require_finite(path, converted, how_to_get(spec))
    return converted


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a dictionary of tensors onto the CPU, as `torch.load` restricted to weights does.

    What it is wrapped in, as {"state_dict": ...}, and the prefixes of DataParallel and
    torch.compile, which all entries have then, are taken off.

    Raises:
        UserError: the file is missing, does not parse, or holds something else.
    """
    return _read(path)[0]


def _read(path: str | Path) -> tuple[dict[str, Tensor], str]:
    """`read_weights`, and words on what was taken off."""
    state, unwrapped = unwrap(load_file(path))
    require_tensors(path, state)
    return state, unwrapped


def load_file(path: str | Path) -> Any:
    """`torch.load` of tensors and plain values onto the CPU; a `UserError` names a bad file.

    Files of safetensors are read too.
    """
    try:
        with Path(path).open("rb") as file:
            try:
                head = file.read(16)
                file.seek(0)
                return safetensors_load(Path(path)) if is_safetensors(head) else torch_load(file)
            except UserError:
                raise
            # damaged bytes lead to any exception: IndexError, struct.error, OSError of a seek, ...
            except Exception as error:
                raise WeightsError(path, *identify(Path(path), error)) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def save_file(content: Any, path: str | Path, earlier: Path | None = None) -> None:
    """`torch.save` in one step; a `UserError` names a file that cannot be written.

    Args:
        earlier: what a file that is at `path` is renamed to, once the new one is whole; killed just
            then, a process leaves nothing at `path`. Without it, the file is replaced.
    """
    try:
        with atomic_path(path) as temporary:
            with temporary.open("wb") as file:
                torch.save(content, file)
                # on the disk before it takes the place of the earlier one, which is gone then
                file.flush()
                os.fsync(file.fileno())
            if earlier and Path(path).exists():
                Path(path).replace(earlier)
    except (OSError, RuntimeError) as error:
        # torch.save puts a RuntimeError of its own over what comes up while it writes: a full disk,
        # or Ctrl-C
        cause: BaseException = error
        while cause.__context__ and not isinstance(cause, OSError):
            cause = cause.__context__
        if not isinstance(cause, OSError):
            raise cause from None
        raise UserError(
            f"cannot write {path}: {cause.strerror or error}; make room there, or choose another "
            "folder"
        ) from error


def how_to_get(spec: BackboneSpec) -> str:
    """How a user gets a backbone's ImageNet weights, as part of a message."""
    if spec.weights is None:
        return f"NET.PRE_WEIGHTS_PATH {OWN_WEIGHTS} takes {OWN_WEIGHTS}'s own"
    return (
        f"`bash launch/get_weights.sh {spec.name}` puts them at "
        f"models/weights/{spec.weights.filename}"
    )


def _require_snapshot_of(
    model: Network, state: dict[str, Tensor], path: str | Path, but: Sequence[str] = ()
) -> None:
    """Raise `UserError` unless weights are those of the model, without the entries `but`."""
    needed = Architecture(model.backbone_name, model.name) if model.name else None
    expected = {name: each for name, each in published_state(model).items() if name not in but}
    require_match(path, state, expected, needed, "take another snapshot")
