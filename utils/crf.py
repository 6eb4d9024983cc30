"""The dense CRF that sharpens merged masks, by way of pydensecrf."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np

from utils.errors import UserError


def crf_inference(
    image: np.ndarray,
    probabilities: np.ndarray,
    *,
    steps: int = 10,
    gaussian_sxy: float = 3,
    gaussian_compat: float = 3,
    bilateral_sxy: float = 80,
    bilateral_srgb: float = 13,
    bilateral_compat: float = 10,
    present_only: bool = False,
) -> np.ndarray:
    """Refine class probabilities with a fully connected CRF over position and colour.

    The unary energy is −log of the probabilities (clipped at pydensecrf's 1e-5, so they need not
    sum to one); the pairwise energies are Potts models with a Gaussian kernel on position and a
    bilateral one on position and RGB; mean field runs for `steps` steps.

    Args:
        image: H×W×3 uint8, RGB; `np.asarray` of a Pillow image will do.
        probabilities: C×H×W floats in [0, 1].
        steps: mean-field steps.
        gaussian_sxy: deviation of the Gaussian kernel, in pixels.
        gaussian_compat: its weight.
        bilateral_sxy: deviation of the bilateral kernel's position, in pixels.
        bilateral_srgb: deviation of its colour, in units of 1/255.
        bilateral_compat: its weight.
        present_only: leave out classes whose probabilities are 0 everywhere. Clipping would
            count them as 1e-5 in every pixel, which next to no pixel's argmax depends on; time and
            memory grow with the number of classes that take part.

    Returns:
        C×H×W float32; every pixel sums to one. Classes that were left out are 0.

    Raises:
        UserError: pydensecrf is not installed.
        ValueError: shapes or types are not as above, or a probability is not finite.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an H×W×3 uint8 image, got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    if probabilities.ndim != 3 or probabilities.shape[1:] != (height, width):
        raise ValueError(f"expected C×{height}×{width} probabilities, got {probabilities.shape}")
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"expected floating-point probabilities, got {probabilities.dtype}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite")

    densecrf, unary_from_softmax = _import_pydensecrf()
    refined = np.zeros(probabilities.shape, dtype=np.float32)
    taking_part = np.arange(len(probabilities))
    if present_only and probabilities.any():
        taking_part = np.flatnonzero(probabilities.any(axis=(1, 2)))
    if len(taking_part) == 1:
        # its softmax is 1 whatever the energies are
        refined[taking_part] = 1
        return refined

    crf = densecrf.DenseCRF2D(width, height, len(taking_part))
    # pydensecrf takes C-ordered memory only, and only what may be written to
    crf.setUnaryEnergy(unary_from_softmax(np.ascontiguousarray(probabilities[taking_part])))
    crf.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=bilateral_sxy,
        srgb=bilateral_srgb,
        rgbim=np.require(image, requirements="CW"),
        compat=bilateral_compat,
    )
    refined[taking_part] = np.array(crf.inference(steps)).reshape(-1, height, width)
    return refined


def require_crf(otherwise: str) -> None:
    """Raise `UserError` where pydensecrf is not installed; `otherwise` is what else would help."""
    try:
        _import_pydensecrf()
    except UserError as error:
        raise UserError(f"{error}; {otherwise}") from error


def _import_pydensecrf() -> tuple[ModuleType, Callable[[np.ndarray], np.ndarray]]:
    """pydensecrf's CRF and its unary energy; a `UserError` if it is not installed."""
    try:
        # imported here so that whatever needs no CRF runs without a C++ extension
        from pydensecrf import densecrf
        from pydensecrf.utils import unary_from_softmax
    except ImportError as error:
        raise UserError(
            f"the CRF needs pydensecrf ({error}); `pip install pydensecrf2` installs it"
        ) from error
    return densecrf, unary_from_softmax
