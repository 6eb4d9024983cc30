"""What the two models promise their callers, on a tiny backbone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from golden_recipe import golden_config
from torch import Tensor, nn

from core.published import published_state
from models import get_model
from models.builder import REFINEMENTS
from models.cam import CamBaseline
from models.heads.aspp import ASPP
from models.heads.gate import StochasticGate
from models.heads.gci import GlobalCueInjection
from models.heads.ngwp import normalised_global_weighted_pooling, size_focal_penalty
from models.heads.pamr import PAMR
from models.layers import AT_ONCE, FixedStatsBatchNorm2d, images_at_once
from models.network import Network
from models.segmentation import WIDTH, SegmentationNetwork
from models.self_supervision import Unrefined, balanced_mask_loss, make_pseudo_labels
from utils.errors import UserError

CLASSES = 5
SIZE = (33, 42)
GRID = (9, 11)  # of conv3, and so of the ae masks
DEEP_GRID = (5, 6)  # of conv6
PRESENT = ((1, 3), (), (0,), (0, 1, 2, 3))  # the objects of each image, counted from 0


class TinyBackbone(nn.Module):
    """conv3 with 6 channels at stride 4, conv6 with 7 at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.shallow = nn.Conv2d(3, 6, 3, stride=4, padding=1)
        self.deep = nn.Conv2d(3, 7, 3, stride=8, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(self.shallow(images)), torch.relu(self.deep(images))


def tiny_ae(classes: int = CLASSES, refine: nn.Module | None = None) -> SegmentationNetwork:
    torch.manual_seed(0)
    return SegmentationNetwork(
        TinyBackbone(),
        6,
        classes,
        aspp=ASPP(FixedStatsBatchNorm2d, 7, WIDTH),
        shallow_mask=GlobalCueInjection(6, WIDTH, WIDTH),
        gate=StochasticGate(0.3),
        pool=normalised_global_weighted_pooling,
        penalty=partial(size_focal_penalty, p=4, lam=0.02),
        refine=refine or PAMR(3, (1, 2)),
        mask_loss=balanced_mask_loss,
    )


def tiny_bsl(classes: int = CLASSES) -> CamBaseline:
    torch.manual_seed(0)
    return CamBaseline(TinyBackbone(), 7, classes, bg_score=0.15)


TINY = {"ae": tiny_ae, "bsl": tiny_bsl}


def batch(size: tuple[int, int] = SIZE, classes: int = CLASSES) -> tuple[Tensor, Tensor, Tensor]:
    """Images, raw images and labels: many objects, none, one, all."""
    torch.manual_seed(1)
    raw = torch.rand(len(PRESENT), 3, *size)
    labels = torch.zeros(len(PRESENT), classes - 1)
    for row, present in zip(labels, PRESENT, strict=True):
        row[list(present)] = 1
    # flipped, for PAMR could not tell an image from its raw one
    return 4 * raw.flip(-1) - 2, raw, labels


def upsampled(maps: Tensor) -> Tensor:
    return nn.functional.interpolate(maps, size=SIZE, mode="bilinear", align_corners=True)


def without_absent(masks: Tensor) -> Tensor:
    masks = masks.clone()
    for image, present in zip(masks, PRESENT, strict=True):
        for index in range(CLASSES - 1):
            if index not in present:
                image[1 + index] = 0
    return masks


def slow_fg(masks: Tensor) -> list[float]:
    return [
        sum(image[1 + index].mean().item() for index in present) / max(len(present), 1)
        for image, present in zip(masks, PRESENT, strict=True)
    ]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("classes", [5, 21])
@pytest.mark.parametrize("size", [(33, 41), (32, 50), (65, 37)])
@pytest.mark.parametrize("model", list(TINY))
def test_images_alone_give_scores_and_masks(model, size, classes, training):
    network = TINY[model](classes).train(training)
    scores, masks = network(batch(size)[0])
    assert scores.shape == (4, classes - 1)
    assert masks.shape == (4, classes, *size)
    assert masks.min() >= 0 and masks.max() <= 1


def test_outputs_of_ae_with_labels():
    outputs = tiny_ae().train()(*batch())
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    expected = {
        "cls": (4, CLASSES - 1),
        "fg": (4,),
        "mask_logits": (4, CLASSES, *GRID),
        "pseudo_labels": (4, *SIZE),
        "loss_mask": (4,),
    }
    assert shapes == expected
    assert outputs["pseudo_labels"].dtype == torch.int64
    # pseudo labels are targets: what they are made from gets no gradient through them
    learns = {name for name, value in outputs.items() if value.requires_grad}
    assert learns == {"cls", "mask_logits", "loss_mask"}

    outputs = tiny_ae().train()(*batch(), with_masks=True)
    assert set(outputs) == {*expected, "masks", "refined_masks"}
    for name in ("masks", "refined_masks"):
        assert outputs[name].shape == (4, CLASSES, *SIZE)
        assert not outputs[name].requires_grad


def test_outputs_of_bsl_with_labels():
    outputs = tiny_bsl().train()(*batch())
    shapes = {name: tuple(value.shape) for name, value in outputs.items()}
    expected = {"cls": (4, CLASSES - 1), "fg": (4,), "mask_logits": (4, CLASSES - 1, *DEEP_GRID)}
    assert shapes == expected
    assert outputs["cls"].requires_grad
    assert not outputs["fg"].requires_grad

    outputs = tiny_bsl().train()(*batch(), with_masks=True)
    assert set(outputs) == {*expected, "masks"}
    assert outputs["masks"].shape == (4, CLASSES, *SIZE)


@pytest.mark.parametrize("model", list(TINY))
def test_labels_change_neither_scores_nor_masks_of_present_objects(model):
    network = TINY[model]().eval()
    images, raw, labels = batch()
    with torch.no_grad():
        scores, masks = network(images)
        outputs = network(images, raw, labels, with_masks=True)
    torch.testing.assert_close(outputs["cls"], scores)
    torch.testing.assert_close(outputs["masks"], without_absent(masks))


@pytest.mark.parametrize("model", list(TINY))
def test_images_of_a_batch_do_not_see_each_other(model):
    network = TINY[model]().eval().double()
    inputs = [x.double() for x in batch()]
    with torch.no_grad():
        together = network(*inputs, with_masks=True)
        for i in range(len(PRESENT)):
            alone = network(*(x[i : i + 1] for x in inputs), with_masks=True)
            for name, value in alone.items():
                torch.testing.assert_close(together[name][i : i + 1], value, msg=name)


def test_ae_from_logits_to_losses():
    network = tiny_ae().eval()
    images, raw, labels = batch()
    with torch.no_grad():
        network.last_conv[8].weight *= 3  # for masks confident enough to give pseudo labels
        outputs = network(images, raw, labels, with_masks=True)
    logits = outputs["mask_logits"]
    assert (logits[:, 0] == 1).all()
    masks = logits.softmax(dim=1)
    scores = normalised_global_weighted_pooling(logits, masks) + size_focal_penalty(masks, 4, 0.02)
    torch.testing.assert_close(outputs["cls"], scores[:, 1:])
    torch.testing.assert_close(outputs["masks"], without_absent(upsampled(masks)))
    assert outputs["fg"].tolist() == pytest.approx(slow_fg(masks), rel=1e-5)

    guide = nn.functional.interpolate(raw, size=GRID, mode="bilinear", align_corners=True)
    refined = without_absent(upsampled(PAMR(3, (1, 2))(guide, masks)))
    torch.testing.assert_close(outputs["refined_masks"], refined)
    pseudo_labels = make_pseudo_labels(outputs["refined_masks"])
    assert torch.equal(outputs["pseudo_labels"], pseudo_labels)
    losses = balanced_mask_loss(logits, pseudo_labels, labels)
    assert losses.max() > 0, "the example must have an image with a loss"
    torch.testing.assert_close(outputs["loss_mask"], losses)


def test_without_refinement_pseudo_labels_are_of_the_masks_as_they_are():
    network = tiny_ae(refine=Unrefined()).eval()
    images, raw, labels = batch()
    with torch.no_grad():
        network.last_conv[8].weight *= 3
        outputs = network(images, raw, labels, with_masks=True)
    torch.testing.assert_close(outputs["refined_masks"], outputs["masks"])
    assert torch.equal(outputs["pseudo_labels"], make_pseudo_labels(outputs["masks"]))
    assert not torch.equal(outputs["pseudo_labels"], torch.full((4, *SIZE), 255))


def test_a_refinement_changes_nothing_of_a_snapshot():
    """Those that one has written the other one reads, and both are of the published names."""
    with torch.device("meta"):
        states = [
            published_state(get_model(golden_config("vgg16", "ae", REFINE=refine)))
            for refine in REFINEMENTS
        ]
    assert len(states) > 1
    assert all(list(state) == list(states[0]) for state in states)
    assert "_aff.aff_x.kernel" in states[0]


def test_bsl_from_maps_to_masks():
    network = tiny_bsl().eval().double()
    images, raw, labels = (x.double() for x in batch())
    with torch.no_grad():
        outputs = network(images, raw, labels, with_masks=True)
        deep = network.backbone(images)[1]
    weight = network.fc8.weight.detach()[:, :, 0, 0]
    maps = torch.einsum("kc,bchw->bkhw", weight, deep)
    torch.testing.assert_close(outputs["mask_logits"], maps)
    torch.testing.assert_close(outputs["cls"], maps.mean(dim=(2, 3)))

    objects = upsampled(maps).clamp(min=0)
    for image in objects:
        for mask in image:
            mask /= 1e-5 + mask.max()
    masks = torch.cat([torch.full_like(objects[:, :1], 0.15), objects], dim=1)
    torch.testing.assert_close(outputs["masks"], without_absent(masks))
    assert outputs["fg"].tolist() == pytest.approx(slow_fg(masks), rel=1e-5)


@pytest.mark.parametrize("model", list(TINY))
def test_an_image_without_labels(model):
    network = TINY[model]().train()
    images, raw, _ = batch()
    outputs = network(images, raw, torch.zeros(4, CLASSES - 1), with_masks=True)
    assert outputs["fg"].tolist() == [0, 0, 0, 0]
    for value in outputs.values():
        assert torch.isfinite(value).all()
    assert not outputs["masks"][:, 1:].any()
    if model == "ae":
        assert outputs["loss_mask"].tolist() == [0, 0, 0, 0]
        assert not outputs["refined_masks"][:, 1:].any()
        assert set(outputs["pseudo_labels"].unique().tolist()) <= {0, 255}


@pytest.mark.parametrize("model", list(TINY))
def test_several_images_at_a_time_give_what_one_does(model, monkeypatch):
    """A GPU is given more than one, where there are maps of full size."""
    network = TINY[model]().eval()

    def results() -> dict[str, Tensor]:
        network.zero_grad()
        outputs = network(*batch())
        sum(value.float().sum() for value in outputs.values() if value.requires_grad).backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        return {**outputs, **{name: grad for name, grad in gradients.items() if grad is not None}}

    expected = results()
    users = {"ae": ("segmentation", "self_supervision"), "bsl": ("cam",)}
    for module in users[model]:
        monkeypatch.setattr(f"models.{module}.images_at_once", lambda maps, size: 3)
    found = results()
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_as_many_images_at_a_time_as_memory_is_meant_for():
    maps = torch.empty(16, 21, 81, 81, device="meta")
    assert images_at_once(maps, (321, 321)) == AT_ONCE // (21 * 321 * 321) == 3
    assert images_at_once(maps, (2048, 2048)) == 1
    assert images_at_once(maps.new_empty(16, 21, 81, 81, device="cpu"), (321, 321)) == 1


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("model", list(TINY))
def test_data_parallel(model):
    network = TINY[model]().to(device()).eval()
    inputs = [x.to(device()) for x in batch()]
    ids = [0] if device().type == "cuda" else None
    with torch.no_grad():
        expected = network(*inputs, with_masks=True)
        found = nn.DataParallel(network, device_ids=ids)(*inputs, with_masks=True)
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("model", list(TINY))
def test_bfloat16_autocast(model):
    network = TINY[model]().to(device()).train()
    inputs = [x.to(device()) for x in batch()]
    with torch.autocast(device().type, dtype=torch.bfloat16):
        outputs = network(*inputs, with_masks=True)
        scores, masks = network(inputs[0])
    for value in (*outputs.values(), scores, masks):
        assert torch.isfinite(value).all()
    loss = outputs["cls"].sum() + (outputs["loss_mask"].sum() if model == "ae" else 0)
    loss.backward()
    for name, parameter in network.named_parameters():
        # bsl does not use conv3
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


class TestGetModel:
    def test_unknown_model(self):
        with pytest.raises(UserError, match=r"NET\.MODEL.*'unet'.*ae, bsl"):
            get_model(golden_config("vgg16", "unet"))

    def test_unknown_backbone(self):
        with pytest.raises(UserError, match=r"NET\.BACKBONE.*'vgg19'.*resnet38, vgg16"):
            get_model(golden_config("vgg19", "ae"))

    @pytest.mark.parametrize("model", list(TINY))
    def test_other_numbers_of_classes(self, model):
        network = get_model(golden_config("vgg16", model), num_classes=4).eval()
        images = batch()[0]
        with torch.no_grad():
            scores, masks = network(images)
            outputs = network(images, images, torch.ones(4, 3))
        assert scores.shape == (4, 3)
        assert masks.shape == (4, 4, *SIZE)
        assert outputs["mask_logits"].shape[1] == (4 if model == "ae" else 3)

    @pytest.mark.parametrize("model", list(TINY))
    def test_configuration_reaches_the_parts(self, model):
        values = {
            "SG_PSI": 0.45,
            "FOCAL_P": 2.5,
            "FOCAL_LAMBDA": 0.3,
            "PAMR_ITER": 4,
            "PAMR_KERNEL": (1, 3),
            "BG_SCORE": 0.35,
        }
        with torch.device("meta"):
            network: Network = get_model(golden_config("vgg16", model, **values))
        if model == "bsl":
            assert network.bg_score == 0.35
            return
        assert network.gate.psi == 0.45
        assert network.penalty.keywords == {"p": 2.5, "lam": 0.3}
        (pamr,) = (module for module in network.modules() if isinstance(module, PAMR))
        assert (pamr.num_iter, pamr.dilations) == (4, (1, 3))
