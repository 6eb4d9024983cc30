"""NET.MODEL "ae": the single-stage segmentation network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.heads.pamr import published_stencils
from models.layers import at_least_float32, images_at_once, init_from_scratch, resize_corners
from models.network import Network, label_mean
from models.present import PresentClasses
from models.self_supervision import make_pseudo_labels

WIDTH = 256  # channels of the decoder
SKIP_WIDTH = 48  # channels of the shallow features that join the deep ones


class SegmentationNetwork(Network):
    """Masks from a decoder, scores from the masks, and supervision from the refined masks.

    The parts are given, with what they map to what; `models.builder` lists the published ones.

    Args:
        backbone: B×3×H×W images to (conv3, conv6).
        shallow: channels of conv3.
        num_classes: C, background included.
        aspp: conv6 to B×WIDTH×h×w.
        shallow_mask: conv3 and the decoder's B×WIDTH×h×w to a tensor of the latter's shape.
        gate: the decoder's features and the result of `shallow_mask` to a mixture of them.
        pool: mask logits and masks B×C×h×w to B×C scores.
        penalty: masks B×C×h×w to what is added to their B×C scores.
        refine: images B×3×h×w and masks B×K×h×w to refined masks; never in need of gradients.
        mask_loss: mask logits B×C×h×w, pseudo labels B×H×W and labels B×(C − 1) to B losses.

    All convolutions of `aspp` and `shallow_mask` start Kaiming-normal (see `init_from_scratch`).
    """

    class_layer = "last_conv.8"

    def __init__(
        self,
        backbone: nn.Module,
        shallow: int,
        num_classes: int,
        *,
        aspp: nn.Module,
        shallow_mask: nn.Module,
        gate: nn.Module,
        pool: Callable[[Tensor, Tensor], Tensor],
        penalty: Callable[[Tensor], Tensor],
        refine: nn.Module,
        mask_loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__(backbone)
        # their order is that of entries in published snapshots
        self.aspp = aspp
        self._aff = refine  # the name there
        self.shallow_mask = shallow_mask
        self.gate = gate
        self.pool = pool
        self.penalty = penalty
        self.mask_loss = mask_loss
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
            labels: B×(C − 1), 1 where the image has the object; on the CPU too, where how many
                there are is known without waiting for a GPU.
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
        classes = PresentClasses(labels, logits.device)
        labels = classes.labels
        masks = logits.softmax(dim=1)
        outputs = {"cls": self._score(logits, masks), "mask_logits": logits}
        size = raw_images.shape[-2:]
        with torch.no_grad():
            outputs["fg"] = label_mean(masks[:, 1:].mean(dim=(2, 3)), labels)
            guide = resize_corners(raw_images, masks.shape[-2:])
            refined = self._aff(guide, classes.select(masks))
            # few images at a time, for masks of full size are large
            few = images_at_once(refined, size)
            images = zip(refined.split(few), classes.numbers.split(few), strict=True)
            outputs["pseudo_labels"] = torch.cat(
                [make_pseudo_labels(resize_corners(x, size), numbers) for x, numbers in images]
            )
            if with_masks:
                present = resize_corners(classes.select(masks), size)
                outputs["masks"] = classes.spread(present)
                outputs["refined_masks"] = classes.spread(resize_corners(refined, size))
        outputs["loss_mask"] = self.mask_loss(logits, outputs["pseudo_labels"], labels)
        return outputs

    def _score(self, logits: Tensor, masks: Tensor) -> Tensor:
        """Mask logits and masks, B×C×h×w, to class scores B×(C − 1)."""
        return (self.pool(logits, masks) + self.penalty(masks))[:, 1:]

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
