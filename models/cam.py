"""NET.MODEL "bsl": the baseline of class activation maps (CAM; Zhou et al., 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import at_least_float32, images_at_once, resize_corners
from models.network import Network, drop_absent, label_mean


class CamBaseline(Network):
    """Scores by average pooling and a linear layer; masks are that layer's maps.

    Args:
        backbone: gives (conv3, conv6), of which conv6 is used.
        channels: of conv6.
        num_classes: C, background included.
        bg_score: the constant mask of the background.
    """

    published_aliases: Mapping[str, tuple[str, ...]] = {
        "fc8.weight": ("fc8.weight", "cls_branch.2.weight", "mask_branch.0.weight")
    }
    class_layer = "fc8"

    def __init__(
        self, backbone: nn.Module, channels: int, num_classes: int, bg_score: float
    ) -> None:
        super().__init__(backbone)
        self.bg_score = bg_score
        self.dropout = nn.Dropout2d(0.5)
        self.fc8 = nn.Conv2d(channels, num_classes - 1, 1, bias=False)
        nn.init.xavier_uniform_(self.fc8.weight)

    def forward(
        self,
        images: Tensor,
        raw_images: Tensor | None = None,
        labels: Tensor | None = None,
        with_masks: bool = False,
    ) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        """Classify and localise.

        Args:
            images: B×3×H×W, normalised.
            raw_images: taken for the sake of one interface, not used.
            labels: B×(C − 1), 1 where the image has the object; on the CPU too.
            with_masks: also return the full-size masks.

        Returns:
            Without labels, (scores B×(C − 1), masks B×C×H×W). With labels, a dictionary:
            `cls` B×(C − 1) scores; `fg` B, the objects' mean mask; `mask_logits` B×(C − 1)×h×w;
            and with `with_masks`, `masks` B×C×H×W, absent objects 0.
        """
        deep = self.run_dense(images)
        # autocast's convolutions give 8 or 11 bits, too few for the losses and for thresholds
        scores = at_least_float32(self.fc8(F.adaptive_avg_pool2d(self.dropout(deep), 1))).flatten(1)
        maps = at_least_float32(self.fc8(deep))
        if labels is None:
            return scores, self._masks(maps, images.shape[-2:])

        labels = labels.to(maps.device, non_blocking=True)
        outputs = {"cls": scores, "mask_logits": maps}
        with torch.no_grad():
            size = images.shape[-2:]
            # few images at a time, for masks of full size are large
            few = maps.split(images_at_once(maps, size))
            means = [self._masks(some, size)[:, 1:].mean(dim=(2, 3)) for some in few]
            outputs["fg"] = label_mean(torch.cat(means), labels)
            if with_masks:
                outputs["masks"] = drop_absent(self._masks(maps, size), labels)
        return outputs

    def forward_dense(self, images: Tensor) -> Tensor:
        """B×3×H×W images to the backbone's conv6."""
        return self.backbone(images)[1]

    def _masks(self, maps: Tensor, size: torch.Size) -> Tensor:
        """Class maps B×(C − 1)×h×w to masks B×C×H×W in [0, 1]."""
        objects = F.relu(resize_corners(maps, size))
        objects = objects / (1e-5 + objects.amax(dim=(2, 3), keepdim=True))
        background = torch.full_like(objects[:, :1], self.bg_score)
        return torch.cat([background, objects], dim=1)
