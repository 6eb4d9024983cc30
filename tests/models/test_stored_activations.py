"""What training keeps for the backward pass: nothing of frozen layers, no masks of full size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from golden_recipe import golden_config
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.accounting import MemoryAccount
from models import get_model
from models.backbones.resnet38 import Bottleneck
from models.layers import FixedStatsBatchNorm2d
from models.self_supervision import balanced_mask_loss

BACKBONES = ("resnet38", "vgg16", "resnet50", "resnet101")


class Saved(saved_tensors_hooks):
    """Bytes that autograd stores inside the context, by storage; those of views count once."""

    def __init__(self) -> None:
        self.storages: dict[int, torch.UntypedStorage] = {}
        super().__init__(self._remember, lambda tensor: tensor)

    def __enter__(self) -> Saved:
        super().__enter__()
        return self

    def _remember(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.storages[storage._cdata] = storage
        return tensor

    def total(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


class Shapes(TorchDispatchMode):
    """The shapes of all tensors made inside the context, in the backward pass too."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.found |= {tuple(leaf.shape) for leaf in leaves}
        return result


@pytest.mark.parametrize("backbone", BACKBONES)
def test_nothing_is_stored_before_the_first_trained_layer(backbone):
    with torch.device("meta"):
        network = get_model(golden_config(backbone, "ae")).train()
        images = torch.empty(2, 3, 65, 65)
    order: list[tuple[bool, int]] = []
    saved = Saved()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own:
            trained = any(parameter.requires_grad for parameter in own)
            module.register_forward_pre_hook(
                lambda *_, trained=trained: order.append((trained, saved.total()))
            )
    with saved:
        network(images)
    first = [trained for trained, _ in order].index(True)
    assert first >= 2, "the first layers are to be frozen"
    assert [stored for _, stored in order[: first + 1]] == [0] * (first + 1)
    assert saved.total() > 0


def random_norm(frozen: bool) -> FixedStatsBatchNorm2d:
    torch.manual_seed(0)
    norm = FixedStatsBatchNorm2d(6).double()
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(values, 0.5, 2)
    return norm.requires_grad_(not frozen)


def test_frozen_batch_norm_stores_no_activations():
    x = torch.rand(4, 6, 9, 9, dtype=torch.float64, requires_grad=True)
    norm = random_norm(frozen=True)
    with Saved() as saved:
        y = norm(x)
    assert saved.total() <= 4 * 6 * 8
    y.square().sum().backward()
    twin = x.detach().clone().requires_grad_()
    other = F.batch_norm(
        twin, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
    other.square().sum().backward()
    torch.testing.assert_close(y, other)
    torch.testing.assert_close(x.grad, twin.grad)
    assert torch.autograd.gradcheck(norm, x.detach()[:1].requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_gradient_of_frozen_batch_norm_is_rounded_once(dtype):
    norm = random_norm(frozen=True).float()
    x = torch.rand(4, 6, 9, 9).to(dtype).requires_grad_()
    gradient = torch.randn(4, 6, 9, 9).to(dtype)
    [found] = torch.autograd.grad(norm(x), x, gradient)
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    assert torch.equal(found, (gradient.float() * scale[:, None, None]).to(dtype))


def test_batch_norm_that_trains_still_gets_its_gradients():
    norm = random_norm(frozen=False)
    norm(torch.rand(4, 6, 9, 9, dtype=torch.float64)).square().sum().backward()
    assert norm.weight.grad.all() and norm.bias.grad.all()


def test_a_bottleneck_on_pretrained_weights_stores_what_its_convolutions_take_in():
    with torch.device("meta"):
        block = Bottleneck(FixedStatsBatchNorm2d, inputs=8, outputs=64, dilation=4, dropout=0.3)
        x = torch.empty(2, 8, 32, 32, requires_grad=True)
    for module in block.modules():
        if isinstance(module, FixedStatsBatchNorm2d):
            module.requires_grad_(False)
    with Saved() as saved:
        block.train()(x)
    weights = {p.untyped_storage()._cdata for p in block.parameters()}
    maps = sum(s.nbytes() for key, s in saved.storages.items() if key not in weights)
    expected = (8 + 64 // 4 + 64 // 2) * 2 * 32 * 32 * 4
    # and some numbers a channel, for BatchNorm and Dropout2d
    assert expected <= maps < 1.05 * expected


def supervision(batch: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.zeros(batch, 20)
    labels[:, 0] = 1
    pseudo_labels = torch.randint(0, 2, (batch, size, size))
    return torch.randn(batch, 21, size // 4, size // 4, requires_grad=True), pseudo_labels, labels


def test_the_mask_loss_makes_logits_of_full_size_for_one_image_at_a_time():
    batch, size = 8, 96
    logits, pseudo_labels, labels = supervision(batch, size)
    whole = 21 * size * size * 4  # of one image
    with MemoryAccount() as account:
        losses = balanced_mask_loss(logits, pseudo_labels, labels)
        assert account.current < 2 * whole  # batch maps of one channel, and the logits' grid
        losses.sum().backward()
    assert losses.min() > 0
    assert account.peak < 6 * whole


def test_masks_of_full_size_are_made_for_one_image_at_a_time(thin_vgg16):
    torch.manual_seed(0)
    network = get_model(golden_config("vgg16", "ae", PAMR_ITER=1)).train()
    raw, labels = torch.rand(3, 3, 41, 47), torch.zeros(3, 20)
    labels[0, 3] = labels[1, 4] = 1
    with Shapes() as shapes:
        outputs = network(raw - 0.5, raw, labels)
        (outputs["cls"].sum() + outputs["loss_mask"].sum()).backward()
    assert (1, 21, 41, 47) in shapes.found
    assert (3, 21, 41, 47) not in shapes.found


def test_masks_are_refined_only_for_classes_of_the_images(monkeypatch, thin_vgg16):
    network = get_model(golden_config("vgg16", "ae", PAMR_ITER=1)).train()
    seen = []
    monkeypatch.setattr(network._aff, "forward", lambda image, masks: seen.append(masks) or masks)
    raw, labels = torch.rand(3, 3, 41, 47), torch.zeros(3, 20)
    labels[0, [3, 5]] = labels[1, 4] = 1
    network(raw, raw, labels)
    assert [tuple(masks.shape[:2]) for masks in seen] == [(3, 3)]
