"""WideResNet38, "A1" (Wu et al., "Wider or Deeper", 2016), its late strides turned to dilation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.spec import BackboneSpec, FeatureInfo, WeightsFile
from models.dilated import DilatedConv2d
from models.grad_checkpointing import GradCheckpointing
from models.layers import init_from_scratch


def _conv(inputs: int, outputs: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (size // 2)
    return nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False)


class ResBlock(nn.Module):
    """Pre-activation residual block: BN-ReLU-conv3×3-BN-ReLU-conv3×3, plus the shortcut.

    The shortcut is the raw input, or, where the shape changes, a 1×1 convolution of the activated
    input.

    Shape:
        B×inputs×H×W to B×outputs×(H/stride)×(W/stride).
    """

    def __init__(
        self,
        norm_layer: type[nn.BatchNorm2d],
        inputs: int,
        middle: int,
        outputs: int,
        stride: int = 1,
        first_dilation: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.bn_branch2a = norm_layer(inputs)
        self.conv_branch2a = _conv(inputs, middle, 3, stride, first_dilation)
        self.bn_branch2b1 = norm_layer(middle)
        self.conv_branch2b1 = _conv(middle, outputs, 3, dilation=dilation)
        if inputs != outputs or stride != 1:
            self.conv_branch1 = _conv(inputs, outputs, 1, stride)
        else:
            self.conv_branch1 = None

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn_branch2a(x), inplace=True)
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(out)
        # no name keeps a map that is done with, of gigabytes in inference
        out = self.conv_branch2a(out)
        out = F.relu(self.bn_branch2b1(out), inplace=True)
        out = self.conv_branch2b1(out)
        return out.add_(shortcut)


class Bottleneck(nn.Module):
    """Pre-activation bottleneck: 1×1 to outputs/4, 3×3 to outputs/2, 1×1 to outputs.

    Dropout2d goes with the second and the third ReLU; the shortcut is always a 1×1 convolution of
    the activated input.

    Shape:
        B×inputs×H×W to B×outputs×H×W.
    """

    def __init__(
        self,
        norm_layer: type[nn.BatchNorm2d],
        inputs: int,
        outputs: int,
        dilation: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.bn_branch2a = norm_layer(inputs)
        self.conv_branch2a = _conv(inputs, outputs // 4, 1)
        self.bn_branch2b1 = norm_layer(outputs // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = DilatedConv2d(outputs // 4, outputs // 2, dilation)
        self.bn_branch2b2 = norm_layer(outputs // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = _conv(outputs // 2, outputs, 1)
        self.conv_branch1 = _conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn_branch2a(x), inplace=True)
        out = self.conv_branch2a(activated)
        # dropout before or after ReLU gives the same, but before it the result of ReLU, which
        # backward needs, is also the convolution's input, which backward needs too
        out = F.relu(self.dropout_2b1(self.bn_branch2b1(out)), inplace=True)
        out = self.conv_branch2b1(out)
        out = F.relu(self.dropout_2b2(self.bn_branch2b2(out)), inplace=True)
        out = self.conv_branch2b2(out)
        return out.add_(self.conv_branch1(activated))


class ResNet38(GradCheckpointing):
    """WideResNet38 as a pair of feature maps.

    Shape:
        images B×3×H×W to conv3, B×256×H/4×W/4 (output of b3_2), and conv6, B×4096×H/8×W/8.
    """

    def __init__(self, norm_layer: type[nn.BatchNorm2d]) -> None:
        super().__init__()
        self.conv1a = _conv(3, 64, 3)
        self._add_stage("b2", 3, norm_layer, 64, 128)
        self._add_stage("b3", 3, norm_layer, 128, 256)
        self._add_stage("b4", 6, norm_layer, 256, 512)
        self.b5 = ResBlock(norm_layer, 512, 512, 1024, first_dilation=1, dilation=2)
        self.b5_1 = ResBlock(norm_layer, 1024, 512, 1024, first_dilation=2, dilation=2)
        self.b5_2 = ResBlock(norm_layer, 1024, 512, 1024, first_dilation=2, dilation=2)
        self.b6 = Bottleneck(norm_layer, 1024, 2048, dilation=4, dropout=0.3)
        self.b7 = Bottleneck(norm_layer, 2048, 4096, dilation=4, dropout=0.5)
        self.bn7 = norm_layer(4096)
        init_from_scratch(self)

    def _add_stage(
        self, name: str, blocks: int, norm_layer: type[nn.BatchNorm2d], inputs: int, outputs: int
    ) -> None:
        """Add blocks NAME, NAME_1, NAME_2, ... of which the first halves the resolution."""
        setattr(self, name, ResBlock(norm_layer, inputs, outputs, outputs, stride=2))
        for index in range(1, blocks):
            setattr(self, f"{name}_{index}", ResBlock(norm_layer, outputs, outputs, outputs))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.run_all((self.b2, self.b2_1, self.b2_2), self.conv1a(images))
        conv3 = self.run_all((self.b3, self.b3_1, self.b3_2), x)
        x = self.run_all((self.b4, self.b4_1, self.b4_2, self.b4_3, self.b4_4, self.b4_5), conv3)
        x = self.run_all((self.b5, self.b5_1, self.b5_2, self.b6, self.b7), x)
        return conv3, F.relu(self.bn7(x), inplace=True)


RESNET38 = BackboneSpec(
    name="resnet38",
    build=ResNet38,
    conv3=FeatureInfo(channels=256, stride=4),
    conv6=FeatureInfo(channels=4096, stride=8),
    frozen=("conv1a.", "b2.", "b2_1.", "b2_2."),
    lr_multipliers=(1, 2, 10, 20),
    weights=WeightsFile(
        url="https://download.visinf.tu-darmstadt.de/data/2020-cvpr-araslanov-1-stage-wseg/models/"
        "ilsvrc-cls_rna-a1_cls1000_ep-0001.pth",
        mebibytes=402,
    ),
    ignored_weights=("linear1000.", "fc.", "fc8."),
)
