"""What the models have in common: a backbone, and names that their weights are published under."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.backbones.spec import MeanStd
from models.grad_checkpointing import GradCheckpointing


class Network(GradCheckpointing):
    """A backbone with heads, trained from image-level labels.

    Called as `model(images)`, a network returns (scores, masks): B×(C − 1) class logits and
    B×C×H×W masks. Called as `model(images, raw_images, labels)`, it returns a dictionary of tensors
    with the batch first, for the losses; the labels may still be on the CPU.

    Published snapshots name the backbone's entries without the prefix `backbone.`; each model
    declares in which other ways its entries differ from them.

    Attributes:
        backbone: images to the two feature maps.
        name, backbone_name: its NET.MODEL and NET.BACKBONE, if it was built from a configuration.
        mean_std: what its images are normalised by (see `BackboneSpec`).
    """

    #: an entry of ours → all names it is published under, in their order
    published_aliases: Mapping[str, tuple[str, ...]] = {}
    #: the layer with an output for each object, the one that the number of classes shapes
    class_layer = ""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.name = self.backbone_name = ""
        self.mean_std: MeanStd | None = None
        self._compiled: Callable[[Tensor], Tensor] | None = None

    def forward_dense(self, images: Tensor) -> Tensor:
        """B×3×H×W images to the maps behind scores, masks and losses: nearly all of the work."""
        raise NotImplementedError

    def run_dense(self, images: Tensor) -> Tensor:
        """`forward_dense`, compiled in training once `compile_layers` was called."""
        if self.training and self._compiled:
            return self._compiled(images)
        return self.forward_dense(images)

    def compile_layers(self) -> None:
        """Let PyTorch compile `forward_dense` for training, at its first step.

        Evaluation, whose batches differ in size, is not compiled. Names of parameters and buffers
        stay as they are.
        """
        self._compiled = torch.compile(self.forward_dense, dynamic=False)

    def checkpoint_activations(self) -> None:
        """Store fewer activations in training, and compute them again in the backward pass.

        Outputs, gradients, running statistics and names stay as they are.

        Raises:
            UserError: the backbone cannot.
        """
        for module in self.modules():
            if isinstance(module, GradCheckpointing):
                module.set_grad_checkpointing()

    def published_constants(self) -> dict[str, Tensor]:
        """Entries of published snapshots that hold nothing learnt, under attributes of ours."""
        return {}


def label_mean(values: Tensor, labels: Tensor) -> Tensor:
    """The mean of B×K `values` over each image's labels (B×K, 0 or 1); 0 for an image without."""
    return (values * labels).sum(dim=1) / labels.sum(dim=1).clamp(min=1)


def drop_absent(masks: Tensor, labels: Tensor) -> Tensor:
    """B×C×H×W masks with those of absent objects 0; `labels` is B×(C − 1)."""
    present = nn.functional.pad(labels, (1, 0), value=1)
    return masks * present[:, :, None, None]
