"""configs/voc_*.yaml against the published settings, and configs/coco_*.yaml against these."""

from dataclasses import asdict

import pytest
from launch_checkout import REPOSITORY

from core.config import load_config

# crop, epochs, learning rate, pad, scales, cut score, background's power, ground-truth labels
PUBLISHED = {
    "resnet38": (321, 24, 0.001, 1024, (1, 0.5, 1.5, 2.0), 0.1, 3, False),
    "vgg16": (448, 32, 0.001, 768, (1, 0.75, 1.25, 1.5), 0.3, 1, True),
    "resnet50": (448, 20, 0.0005, 768, (1, 0.75, 1.25, 1.5), 0.3, 3, True),
    "resnet101": (448, 20, 0.001, 768, (1, 0.75, 1.25, 1.5), 0.3, 3, True),
}
WEIGHTS = {
    "resnet38": "models/weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.pth",
    "vgg16": "models/weights/vgg16_20M.pth",
    "resnet50": "models/weights/resnet50-19c8e357.pth",
    "resnet101": "models/weights/resnet101-5d3b4d8f.pth",
}


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_published_values(backbone: str) -> None:
    cfg = load_config(REPOSITORY / f"configs/voc_{backbone}.yaml")
    crop, epochs, rate, pad, scales, cut, power, labels = PUBLISHED[backbone]
    assert (crop, epochs, rate) == (cfg.DATASET.CROP_SIZE, cfg.TRAIN.NUM_EPOCHS, cfg.NET.LR)
    assert ((pad, pad), scales) == (cfg.TEST.PAD_SIZE, cfg.TEST.SCALES)
    assert (cut, power) == (cfg.TEST.FP_CUT_SCORE, cfg.TEST.BG_POW)
    assert cfg.TEST.USE_GT_LABELS is labels
    assert (backbone, WEIGHTS[backbone]) == (cfg.NET.BACKBONE, cfg.NET.PRE_WEIGHTS_PATH)


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_values_that_all_share(backbone: str) -> None:
    cfg = load_config(REPOSITORY / f"configs/voc_{backbone}.yaml")
    assert (cfg.TRAIN.BATCH_SIZE, cfg.TRAIN.PRETRAIN, cfg.TRAIN.NUM_WORKERS) == (16, 5, 8)
    assert (cfg.DATASET.SCALE_FROM, cfg.DATASET.SCALE_TO) == (0.9, 1.0)
    assert (cfg.NET.MODEL, cfg.NET.OPT, cfg.NET.LOSS) == ("ae", "SGD", "SoftMargin")
    assert cfg.NET.WEIGHT_DECAY == 0.0005
    assert (cfg.TEST.METHOD, cfg.TEST.FLIP, cfg.TEST.BATCH_SIZE) == ("multiscale", True, 8)
    assert cfg.TEST.DATA_ROOT == ""
    # what a file leaves out is the default, and the method's own constants are the defaults
    defaults = load_config().NET
    for key in ("MOMENTUM", "MASK_LOSS_BCE", "BG_SCORE", "FOCAL_P", "FOCAL_LAMBDA", "SG_PSI"):
        assert getattr(cfg.NET, key) == getattr(defaults, key)
    assert (cfg.NET.PAMR_KERNEL, cfg.NET.PAMR_ITER) == (defaults.PAMR_KERNEL, defaults.PAMR_ITER)


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_coco_s_are_voc_s_but_for_the_epochs(backbone: str) -> None:
    path = REPOSITORY / f"configs/coco_{backbone}.yaml"
    ours, published = load_config(path), load_config(REPOSITORY / f"configs/voc_{backbone}.yaml")
    changed = {"NUM_EPOCHS", "PRETRAIN", "VAL_INTERVAL"}
    found, expected = asdict(ours), asdict(published)
    for section in (found["TRAIN"], expected["TRAIN"]):
        for key in changed:
            section.pop(key)
    expected["TEST"]["CRF_PRESENT_ONLY"] = True
    assert found == expected
    assert (ours.TRAIN.PRETRAIN, ours.TRAIN.VAL_INTERVAL) == (1, 1)
    voc, coco = 10582 * (published.TRAIN.NUM_EPOCHS + 1), 82783 * (ours.TRAIN.NUM_EPOCHS + 1)
    assert 1.5 < coco / voc < 2.5
    assert "untuned" in path.read_text()
