"""ResNet50 and ResNet101: torchvision's, without the classifier and without the last stride."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torchvision
from torch import Tensor, nn

from models.backbones.spec import BackboneSpec, FeatureInfo, WeightsFile
from models.grad_checkpointing import GradCheckpointing


class ResNet(GradCheckpointing):
    """A torchvision ResNet as a pair of feature maps; layer4 keeps stride 1, with no dilation.

    Shape:
        images B×3×H×W to conv3, B×256×H/4×W/4 (layer1), and conv6, B×2048×H/16×W/16 (layer4).
    """

    def __init__(
        self, make: Callable[..., torchvision.models.ResNet], norm_layer: type[nn.BatchNorm2d]
    ) -> None:
        super().__init__()
        # zeros at the end of each block cost pretrained weights nothing and halve the number of
        # steps that training from scratch takes to begin to learn
        resnet = make(weights=None, norm_layer=norm_layer, zero_init_residual=True)
        first = resnet.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
        self.conv1 = resnet.conv1
        self.bn1 = resnet.bn1
        self.relu = resnet.relu
        self.maxpool = resnet.maxpool
        self.layer1 = resnet.layer1
        self.layer2 = resnet.layer2
        self.layer3 = resnet.layer3
        self.layer4 = resnet.layer4

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        conv3 = self.run_all(self.layer1, x)
        x = self.run_all(self.layer2, conv3)
        x = self.run_all(self.layer3, x)
        return conv3, self.run_all(self.layer4, x)


def _spec(
    name: str, make: Callable[..., torchvision.models.ResNet], weights: WeightsFile
) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        build=partial(ResNet, make),
        conv3=FeatureInfo(channels=256, stride=4),
        conv6=FeatureInfo(channels=2048, stride=16),
        frozen=("conv1.", "bn1."),
        lr_multipliers=(1, 1, 10, 10),
        weights=weights,
        ignored_weights=("fc.",),
    )


RESNET50 = _spec(
    "resnet50",
    torchvision.models.resnet50,
    WeightsFile(
        "https://download.pytorch.org/models/resnet50-19c8e357.pth",
        mebibytes=98,
        sha256_prefix="19c8e357",
    ),
)
RESNET101 = _spec(
    "resnet101",
    torchvision.models.resnet101,
    WeightsFile(
        "https://download.pytorch.org/models/resnet101-5d3b4d8f.pth",
        mebibytes=170,
        sha256_prefix="5d3b4d8f",
    ),
)
