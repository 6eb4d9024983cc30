"""TensorBoard: scores and losses of both validation sets, learning rates, and pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from core.precision import tf32
from core.training.engine import Validation, run_batch
from datasets.info import DatasetInfo
from datasets.transforms import MeanStd
from utils.drawing import blend, colorize, legend, picture
from utils.event_files import EventWriter

WRITERS = ("train", "val")
"""Of the two validation sets: a part of the training list, and the validation list."""


class TensorBoardLog:
    """Events in FOLDER/train and FOLDER/val; the step of everything is the epoch.

    Args:
        folder: the run's log folder.
        info: the data set.
        start_epoch: of this process; what an earlier one wrote from this epoch on is void.
    """

    def __init__(self, folder: Path, info: DatasetInfo, start_epoch: int) -> None:
        self.info = info
        self.writers = {
            name: EventWriter(folder / name, purge_step=start_epoch) for name in WRITERS
        }

    def learning_rates(self, optimizer: torch.optim.Optimizer, epoch: int) -> None:
        """lr/enc_group_00 and on, to the writer `train`."""
        for index, group in enumerate(optimizer.param_groups):
            self.writers["train"].add_scalar(f"lr/enc_group_{index:02d}", group["lr"], epoch)

    def validation(self, name: str, result: Validation, epoch: int) -> None:
        """Average precision by class, their mean, and the losses, to the writer `name`."""
        writer = self.writers[name]
        classes = enumerate(self.info.classes[1:], start=1)
        for (index, label), value in zip(classes, result.average_precision, strict=True):
            if not math.isnan(value):
                writer.add_scalar(f"{index:02d}_{label}/AP", value, epoch)
        writer.add_scalar("all_wo_BG/mAP", result.mean_average_precision, epoch)
        for loss, value in result.losses.items():
            writer.add_scalar(f"all/{loss}", value, epoch)

    def checkpoint_score(self, score: float, epoch: int) -> None:
        """all/checkpoint_score, to the writer `val`."""
        self.writers["val"].add_scalar("all/checkpoint_score", score, epoch)

    def pictures(self, image: np.ndarray, epoch: int) -> None:
        """An H×W×3 uint8 picture under `visualisation`, to the writer `train`."""
        self.writers["train"].add_image("visualisation", image, epoch, dataformats="HWC")

    def flush(self) -> None:
        """Bring what was written to disk."""
        for writer in self.writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()


def discard_logs(folder: Path) -> None:
    """Remove the events and the run info of an earlier run from its log folder."""
    patterns = [f"{name}/events.out.tfevents.*" for name in WRITERS]
    for pattern in (*patterns, "config*.yaml", "dataset*.yaml", "environment*.yaml", "diff*.patch"):
        for path in folder.glob(pattern):
            path.unlink()


@tf32(False)
@torch.inference_mode()
def draw_batch(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    info: DatasetInfo,
    device: torch.device,
    mean_std: MeanStd | None = None,
) -> np.ndarray:
    """The model's masks for a fixed batch, one row per image, as an H×W×3 uint8 picture.

    Columns: the input, the masks, and where the model has them the refined masks and the pseudo
    labels; masks of objects that the image does not have are left out. Below are the names of the
    batch's classes beside their colours. The model's input is normalised by `mean_std`.
    """
    model.eval()
    outputs, _ = run_batch(model, batch, device, with_masks=True, mean_std=mean_std)
    images = (batch[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()

    columns = {"input": list(images)}
    for key, title in (("masks", "masks"), ("refined_masks", "refined masks")):
        if key in outputs:
            masks = outputs[key].float().cpu().numpy()
            columns[title] = [
                blend(image, _mix(mask, info.palette))
                for image, mask in zip(images, masks, strict=True)
            ]
    if "pseudo_labels" in outputs:
        columns["pseudo labels"] = [
            blend(image, colorize(mask, info.palette))
            for image, mask in zip(images, outputs["pseudo_labels"].cpu().numpy(), strict=True)
        ]
    grid = picture(list(zip(*columns.values(), strict=True)), list(columns))
    present = [0, *(batch[1].any(dim=0).nonzero().flatten() + 1).tolist()]
    names = legend(info.classes, info.palette, present, grid.shape[1])
    return np.concatenate([grid, names])


def _mix(masks: np.ndarray, palette: tuple[int, ...]) -> np.ndarray:
    """Soft C×H×W masks as the mixture of their classes' colours, H×W×3 uint8."""
    present = np.flatnonzero(masks.any(axis=(1, 2)))  # few, however many classes there are
    colours = np.asarray(palette, dtype=np.float32).reshape(256, 3)[present]
    mixture = np.einsum("chw,cr->hwr", masks[present], colours)
    return np.clip(np.rint(mixture), 0, 255).astype(np.uint8)
