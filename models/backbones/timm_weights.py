"""Weights of timm's models: its own, and files of names that it knows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import Tensor, nn

from models.backbones.spec import ConversionError
from models.backbones.timm_plan import Plan, create_features
from utils.errors import UserError, first_few

CLASSES = 1000  # of ImageNet


def convert_weights(name: str, plan: Plan, state: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Let timm load weights as it does, and give them under the backbone's names.

    timm renames what comes from elsewhere, and cuts off what the maps do not need.

    Args:
        state: entries of a weights file of timm's or of one that it knows, or None for its own,
            from its hub or cache.

    Raises:
        ConversionError: entries are missing or of another network; a classifier may be missing.
        UserError: the weights cannot be downloaded, or there are none.
    """
    if state is None and not timm.is_model_pretrained(name):
        raise UserError(
            f"NET.PRE_WEIGHTS_PATH timm: timm has no weights of {name}; train from scratch with "
            '--set NET.FREEZE_BN False NET.PRE_WEIGHTS_PATH ""'
        )
    overlay = None if state is None else {"state_dict": dict(state)}
    loads: list[tuple[Mapping[str, Tensor], Any]] = []
    try:
        with _watched_loads(loads):
            features, _ = create_features(
                name, dict(plan.options), pretrained=True, pretrained_cfg_overlay=overlay
            )
    except Exception as error:  # of the hub, of requests, of the renaming, of loading
        if state is None:
            raise UserError(_how_to_fetch(name, error)) from error
        # the first line of PyTorch's says only that there are more
        lines = [line.strip() for line in str(error).splitlines()]
        raise ConversionError(first_few(lines[1:] or lines) or type(error).__name__) from error
    for loaded, result in loads:
        try:
            # of its own, timm knows what to leave out
            unexpected = [] if state is None else result.unexpected_keys
            _require_all(name, loaded, result.missing_keys, unexpected)
        except ConversionError as error:
            if state is not None:
                raise
            raise UserError(
                f"NET.PRE_WEIGHTS_PATH timm: timm's weights of {name} are not its model's "
                f"({error}); name a file, or choose another NET.BACKBONE"
            ) from error
    return {f"timm.{each}": value for each, value in features.state_dict().items()}


def _how_to_fetch(name: str, error: Exception) -> str:
    config = timm.get_pretrained_cfg(name)
    file = f"model.safetensors of {config.hf_hub_id}" if config.hf_hub_id else config.url
    return (
        f"NET.PRE_WEIGHTS_PATH timm: no weights of {name} could be had ({type(error).__name__}); "
        f"mend the network, or fetch {file} yourself and name that file"
    )


def _require_all(
    name: str, loaded: Mapping[str, Tensor], missing: list[str], unexpected: list[str]
) -> None:
    """Raise `ConversionError` for missing and unexpected entries other than a classifier's.

    What the whole model has behind the deepest map is not unexpected.
    """
    classifiers = timm.get_pretrained_cfg(name).classifier or ()
    if isinstance(classifiers, str):
        classifiers = (classifiers,)
    prefixes = tuple(f"{each}." for each in classifiers)
    missing = [each for each in missing if not each.startswith(prefixes)]
    if unexpected:
        with torch.device("meta"):
            whole = timm.create_model(name).state_dict()
        # others call the classifier otherwise, but it has this number of classes
        unexpected = [
            each
            for each in unexpected
            if each not in whole and loaded[each].shape[:1] != (CLASSES,)
        ]
    faults = [
        f"it lacks {first_few(missing)}" if missing else "",
        f"the network does not have {first_few(unexpected)}" if unexpected else "",
    ]
    if any(faults):
        raise ConversionError("; ".join(filter(None, faults)))


@contextmanager
def _watched_loads(loads: list[tuple[Mapping[str, Tensor], Any]]) -> Iterator[None]:
    """Note what modules load in the body and what PyTorch says of it.

    timm goes on without missing and unexpected entries where only maps are wanted.
    """
    load, logger = nn.Module.load_state_dict, logging.getLogger("timm")
    level = logger.level

    def watched(self: nn.Module, state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any):
        result = load(self, state_dict, *args, **kwargs)
        loads.append((state_dict, result))
        return result

    nn.Module.load_state_dict = watched
    logger.setLevel(logging.ERROR)  # it warns of the classifier, which nobody wants
    try:
        yield
    finally:
        nn.Module.load_state_dict = load
        logger.setLevel(level)
