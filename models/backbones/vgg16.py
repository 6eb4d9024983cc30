"""VGG16, the small dilated variant of DeepLab ("20M"; Chen et al., "DeepLab", 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.spec import BackboneSpec, FeatureInfo, WeightsFile
from models.grad_checkpointing import GradCheckpointing
from models.layers import init_from_scratch


def _conv3x3(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)


class VGG16(GradCheckpointing):
    """VGG16 as a pair of feature maps. It has no batch normalisation.

    Shape:
        images B×3×H×W to conv3, B×256×H/4×W/4 (conv3_3), and conv6, B×1024×H/8×W/8 (fc7).
    """

    def __init__(self, norm_layer: type[nn.BatchNorm2d] | None = None) -> None:
        super().__init__()
        self.conv1_1 = _conv3x3(3, 64)
        self.conv1_2 = _conv3x3(64, 64)
        self.conv2_1 = _conv3x3(64, 128)
        self.conv2_2 = _conv3x3(128, 128)
        self.conv3_1 = _conv3x3(128, 256)
        self.conv3_2 = _conv3x3(256, 256)
        self.conv3_3 = _conv3x3(256, 256)
        self.conv4_1 = _conv3x3(256, 512)
        self.conv4_2 = _conv3x3(512, 512)
        self.conv4_3 = _conv3x3(512, 512)
        self.conv5_1 = _conv3x3(512, 512, dilation=2)
        self.conv5_2 = _conv3x3(512, 512, dilation=2)
        self.conv5_3 = _conv3x3(512, 512, dilation=2)
        self.fc6 = _conv3x3(512, 1024)
        self.drop6 = nn.Dropout2d(0.5)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        init_from_scratch(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.run(self._stage1, images)
        x = self.run(self._stage2, x)
        conv3 = self.run(self._stage3, x)
        x = self.run(self._stage4, conv3)
        return conv3, self.run(self._stage5, x)

    def _stage1(self, images: Tensor) -> Tensor:
        x = F.relu(self.conv1_2(F.relu(self.conv1_1(images), inplace=True)), inplace=True)
        return _max_pool(x, stride=2)

    def _stage2(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv2_2(F.relu(self.conv2_1(x), inplace=True)), inplace=True)
        return _max_pool(x, stride=2)

    def _stage3(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv3_2(F.relu(self.conv3_1(x), inplace=True)), inplace=True)
        return F.relu(self.conv3_3(x), inplace=True)

    def _stage4(self, conv3: Tensor) -> Tensor:
        x = _max_pool(conv3, stride=2)
        x = F.relu(self.conv4_2(F.relu(self.conv4_1(x), inplace=True)), inplace=True)
        return _max_pool(F.relu(self.conv4_3(x), inplace=True), stride=1)

    def _stage5(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv5_2(F.relu(self.conv5_1(x), inplace=True)), inplace=True)
        x = F.relu(self.conv5_3(x), inplace=True)
        # dropout before or after ReLU gives the same, but before it one result serves both
        x = F.relu(self.drop6(self.fc6(x)), inplace=True)
        return F.relu(self.fc7(x), inplace=True)


def _max_pool(x: Tensor, stride: int) -> Tensor:
    return F.max_pool2d(x, kernel_size=3, stride=stride, padding=1)


VGG16_20M = BackboneSpec(
    name="vgg16",
    build=VGG16,
    conv3=FeatureInfo(channels=256, stride=4),
    conv6=FeatureInfo(channels=1024, stride=8),
    frozen=("conv1_1.", "conv1_2."),
    lr_multipliers=(1, 2, 10, 20),
    weights=WeightsFile(
        url="https://download.visinf.tu-darmstadt.de/data/2020-cvpr-araslanov-1-stage-wseg/models/"
        "vgg16_20M.pth",
        mebibytes=79,
    ),
    ignored_weights=("fc8.",),
)
