"""What the rest of the system must know of a backbone without building it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

MeanStd = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class FeatureInfo:
    """A feature map of a backbone: its channels, and its stride in input pixels."""

    channels: int
    stride: int


@dataclass(frozen=True)
class WeightsFile:
    """Where weights come from; `bash launch/get_weights.sh` fetches them.

    Attributes:
        url: the file's address, which ends in its name.
        mebibytes: about its size.
        sha256_prefix: the first hexadecimal digits of its SHA-256, or "" where none is known.
    """

    url: str
    mebibytes: int
    sha256_prefix: str = ""

    @property
    def filename(self) -> str:
        """The file's name, in models/weights/ too."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone's builder and its fixed facts.

    Attributes:
        name: what NET.BACKBONE calls it.
        build: makes the network; given the class of its batch normalisation layers. Called with
            images B×3×H×W, the network returns these two feature maps, (conv3, conv6).
        conv3, conv6: channels and strides of the two feature maps.
        frozen: prefixes of the parameters that are not trained on top of ImageNet weights.
        lr_multipliers: of the learning rate, for pretrained weights, pretrained biases, new
            weights and new biases.
        weights: the ImageNet weights; None where another package has them, which `convert` gets.
        ignored_weights: prefixes of that file's entries that belong to its classifier.
        mean_std: of the images that the weights were trained on, each channel's in [0, 1]; None for
            ImageNet's.
        convert: makes the backbone's entries of a weights file's; None where the names are the
            same. Given None, it gets the package's own weights. Raises `ConversionError` for
            entries of another network, and `UserError` where there are no weights to be had.
    """

    name: str
    build: Callable[[type[nn.BatchNorm2d]], nn.Module]
    conv3: FeatureInfo
    conv6: FeatureInfo
    frozen: tuple[str, ...]
    lr_multipliers: tuple[float, float, float, float]
    weights: WeightsFile | None
    ignored_weights: tuple[str, ...] = ()
    mean_std: MeanStd | None = None
    convert: Callable[[Mapping[str, Tensor] | None], dict[str, Tensor]] | None = None


class ConversionError(ValueError):
    """Weights that are not those of the backbone; the text says what does not fit."""
