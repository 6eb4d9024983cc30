"""NET.MODEL "ae": the single-stage segmentation network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.heads.aspp import ASPP
from models.heads.gate import StochasticGate
from models.heads.gci import GlobalCueInjection
from models.heads.ngwp import normalised_global_weighted_pooling, size_focal_penalty
from models.heads.pamr import PAMR, published_stencils
from models.layers import at_least_float32, init_from_scratch, resize_corners
from models.network import Network, drop_absent, label_mean
from models.present import PresentClasses
from models.self_supervision import balanced_mask_loss, make_pseudo_labels

WIDTH = 256  # channels of the decoder
SKIP_WIDTH = 48  # channels of the shallow features that join the deep ones


class SegmentationNetwork(Network):
    """Masks from a decoder, scores from the masks, and supervision from the refined masks.

    Args:
        backbone: gives (conv3, conv6).
        channels: of conv3 and conv6.
        num_classes: C, background included.
        aspp_norm: the class of ASPP's batch normalisation layers.
        psi: the stochastic gate's ψ.
        focal_p, focal_lambda: of the size-focal penalty.
        pamr_iter, pamr_dilations: of PAMR.
    """

    class_layer = "last_conv.8"

    def __init__(
        self,
        backbone: nn.Module,
        channels: tuple[int, int],
        num_classes: int,
        aspp_norm: type[nn.BatchNorm2d],
        psi: float,
        focal_p: float,
        focal_lambda: float,
        pamr_iter: int,
        pamr_dilations: Sequence[int],
    ) -> None:
        super().__init__(backbone)
        shallow, deep = channels
        self.focal_p = focal_p
        self.focal_lambda = focal_lambda
        self.aspp = ASPP(aspp_norm, deep, WIDTH)
        self._aff = PAMR(pamr_iter, pamr_dilations)  # the name in published snapshots
        self.shallow_mask = GlobalCueInjection(shallow, WIDTH, WIDTH)
        self.gate = StochasticGate(psi)
        self.fc8_skip = nn.Sequential(
            nn.Conv2d(shallow, SKIP_WIDTH, 1, bias=False),
            nn.BatchNorm2d(SKIP_WIDTH),
            nn.ReLU(inplace=True),
        )
        self.fc8_x = nn.Sequential(
            nn.Conv2d(WIDTH + SKIP_WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(inplace=True),
        )
        self.last_conv = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            # dropout before or after ReLU gives the same, but before it the result of ReLU, which
            # backward needs, is also the convolution's input, which backward needs too
            nn.Dropout(0.5),
            nn.ReLU(inplace=True),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            nn.BatchNorm2d(WIDTH),
            nn.Dropout(0.1),
            nn.ReLU(inplace=True),
            nn.Conv2d(WIDTH, num_classes - 1, 1),
        )
        for head in (self.aspp, self.shallow_mask, self.fc8_skip, self.fc8_x, self.last_conv):
            init_from_scratch(head)

    def published_constants(self) -> dict[str, Tensor]:
        return {f"_aff.{name}": kernel for name, kernel in published_stencils().items()}

    def forward(
        self,
        images: Tensor,
        raw_images: Tensor | None = None,
        labels: Tensor | None = None,
        with_masks: bool = False,
    ) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        """Segment, or, with labels, also supervise.

        Args:
            images: B×3×H×W, normalised.
            raw_images: B×3×H×W in [0, 1], the same images before normalising; PAMR's guide.
            labels: B×(C − 1), 1 where the image has the object.
            with_masks: also return the full-size masks.

        Returns:
            Without labels, (scores B×(C − 1), masks B×C×H×W). With labels, a dictionary:
            `cls` B×(C − 1) scores; `fg` B, the objects' mean mask; `mask_logits` B×C×h×w;
            `pseudo_labels` B×H×W (255 = none); `loss_mask` B; and with `with_masks`, `masks` and
            `refined_masks` B×C×H×W, absent objects 0.
        """
        logits = self.run_dense(images)
        if labels is not None:
            return self.supervise(logits, raw_images, labels, with_masks)
        masks = logits.softmax(dim=1)
        return self._score(logits, masks), resize_corners(masks, images.shape[-2:])

    def supervise(
        self, logits: Tensor, raw_images: Tensor, labels: Tensor, with_masks: bool = False
    ) -> dict[str, Tensor]:
        """From mask logits B×C×h×w on, what `forward` returns for images with labels."""
        masks = logits.softmax(dim=1)
        outputs = {"cls": self._score(logits, masks), "mask_logits": logits}
        size = raw_images.shape[-2:]
        with torch.no_grad():
            outputs["fg"] = label_mean(masks[:, 1:].mean(dim=(2, 3)), labels)
            classes = PresentClasses(labels)
            guide = resize_corners(raw_images, masks.shape[-2:])
            refined = self._aff(guide, classes.select(masks))
            # image by image, for masks of full size are large
            images = zip(refined.split(1), classes.numbers.split(1), strict=True)
            outputs["pseudo_labels"] = torch.cat(
                [make_pseudo_labels(resize_corners(x, size), numbers) for x, numbers in images]
            )
            if with_masks:
                outputs["masks"] = drop_absent(resize_corners(masks, size), labels)
                outputs["refined_masks"] = resize_corners(classes.spread(refined), size)
        outputs["loss_mask"] = balanced_mask_loss(logits, outputs["pseudo_labels"], labels)
        return outputs

    def _score(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Mask logits and masks, B×C×h×w, to class scores B×(C − 1)."""
        scores = normalised_global_weighted_pooling(logits, masks)
        return (scores + size_focal_penalty(masks, self.focal_p, self.focal_lambda))[:, 1:]

    def forward_dense(self, images: Tensor) -> Tensor:
        """B×3×H×W images to mask logits B×C×h×w, the background's a constant 1."""
        shallow, deep = self.backbone(images)
        skip = self.run(self.fc8_skip, shallow)
        deep = resize_corners(self.run(self.aspp, deep), skip.shape[-2:])
        x_deep = self.run(self.fc8_x, torch.cat([deep, skip], dim=1))
        x_shallow = self.run(self.shallow_mask, shallow, x_deep)
        objects = self.run(self.last_conv, self.gate(x_deep, x_shallow))
        # autocast lowers convolutions, of which none follow; softmax, sums over thousands of
        # pixels, thresholds and logarithms of small numbers would not bear 8 or 11 bits
        objects = at_least_float32(objects)
        return torch.cat([torch.ones_like(objects[:, :1]), objects], dim=1)
