"""A trained network as an object: images in, segmentations out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from core.checkpoint import load_model
from core.config import Config, InferenceConfig
from core.devices import require_working, select_device
from core.distributed import place
from core.inference.predict import Prediction, Predictor
from core.inference.samples import Sample
from core.inference.writing import label_map
from core.precision import accelerate
from core.snapshot_settings import settings_of
from datasets.class_names import label_vector
from datasets.files import read_image
from datasets.images import to_rgb
from datasets.info import DatasetInfo
from models import get_model
from utils.crf import crf_inference
from utils.errors import UserError
from utils.files import user_path


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What the network says of an image.

    Attributes:
        mask: H×W uint8 class indices, the argmax of `probabilities`; the ignore index where
            TEST.MIN_CONFIDENCE is not reached.
        probabilities: C×H×W float32, background first. These are the merged masks, in [0, 1] but
            not adding up to 1: objects without label are 0, and background was raised to the power
            TEST.BG_POW. With `crf` they are the CRF's, which do add up to 1.
        scores: C−1 float32 in [0, 1], each object's highest score of all views; without image
            labels, the objects whose score exceeds TEST.FP_CUT_SCORE keep their masks.
    """

    mask: np.ndarray
    probabilities: np.ndarray
    scores: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The former name of `mask`."""
        return self.mask


class Segmenter:
    """Segments images with a network and the settings of a TEST section.

    Args:
        model: images (B×3×H×W, normalised) → raw class scores (B×(C−1)) and masks (B×C×H×W), on
            `device`; TEST.AMP and TEST.COMPILE change it, so that it is for inference alone (see
            `accelerate`). Images are normalised by its `mean_std`, or by ImageNet's if it has none.
        test: the settings.
        device: where the model is.
        info: names the classes.

    Raises:
        UserError: PyTorch cannot compute as TEST.AMP and TEST.COMPILE say.
    """

    def __init__(
        self, model: nn.Module, test: InferenceConfig, device: torch.device, info: DatasetInfo
    ) -> None:
        self.model = accelerate(model, test, device)
        self.test = test
        self.device = device
        self.info = info
        mean_std = getattr(model, "mean_std", None)
        self._predictor = Predictor(self.model, test, device, mean_std)

    @classmethod
    def from_snapshot(
        cls,
        path: str | Path,
        cfg: Config | str | Path | None = None,
        device: str | torch.device = "auto",
        info: DatasetInfo | str | Path | None = None,
    ) -> Segmenter:
        """The network of a snapshot, published or ours.

        Args:
            path: the snapshot's file. Beside it lie its config.yaml and dataset.yaml, unless these
                are given:
            cfg: the configuration or its YAML file; NET says what network it is, TEST how images
                are seen.
            device: auto, cuda, mps, cpu, or a device of PyTorch's.
            info: the data set that it was trained on, its name, or its dataset.yaml; see
                `settings_of`.

        Raises:
            UserError: a file is missing or does not fit; the configuration is wrong; there is no
                such device.
        """
        cfg, info = settings_of(user_path(path), cfg, info)
        if isinstance(device, str):
            device = select_device(device)
            require_working([device])
        model = get_model(cfg.NET, num_classes=info.num_classes)
        load_model(model, user_path(path))
        return cls(place(model, device), cfg.TEST, device, info)

    def predict(
        self,
        image: Image.Image | np.ndarray | str | Path,
        image_labels: Sequence[str | int] | None = None,
        crf: bool = False,
        labels: Sequence[str | int] | None = None,
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: a path, read as infer_val.py reads one image (turned as EXIF says); or a Pillow
                image of any mode, or an H×W×3 uint8 array of RGB, whose pixels stay where they are.
            image_labels: the objects that it is known to have, by name or by index (1 to C−1); an
                empty list means background only, None leaves them to the network.
            crf: whether a CRF refines the masks.
            labels: the former name of `image_labels`.

        Raises:
            UserError: the image or a label cannot be used; no labels where TEST.USE_GT_LABELS
                demands them; see `Predictor.predict`.
        """
        if image_labels is not None and labels is not None:
            raise UserError("labels= is the former name of image_labels=; give only the latter")
        if image_labels is None:
            image_labels = labels
        known = None if image_labels is None else label_vector(image_labels, self.info.classes)
        if known is None and self.test.USE_GT_LABELS:
            raise UserError(
                "TEST.USE_GT_LABELS asks for image labels; give image_labels=, or cfg= with "
                "TEST.USE_GT_LABELS False"
            )
        opened = _open(image)
        name = str(image) if isinstance(image, (str, Path)) else "the image"
        [(_, merged, scores)] = self.predict_stream([Sample(name, opened, labels=known)])
        if crf:
            present_only = self.test.CRF_PRESENT_ONLY
            merged = crf_inference(np.array(opened), merged, present_only=present_only)
        found = label_map(merged, self.test.MIN_CONFIDENCE, self.info.ignore_index)
        return Segmentation(found.astype(np.uint8), merged, scores)

    def predict_stream(self, samples: Iterable[Sample]) -> Iterator[Prediction]:
        """Each sample with its merged masks and scores; the next one is opened in the meantime."""
        return self._predictor.predict(samples)


def _open(image: Image.Image | np.ndarray | str | Path) -> Image.Image:
    if isinstance(image, (str, Path)):
        return read_image(user_path(image))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            shape = "×".join(map(str, image.shape))
            raise UserError(f"expected an H×W×3 array of uint8, found {shape} of {image.dtype}")
        return Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise UserError(
            f"expected a path, an array or a Pillow image, found {type(image).__name__}"
        )
    try:
        image.load()
        return to_rgb(image)
    except OSError as error:
        raise UserError(f"the image cannot be used: {error}") from error
