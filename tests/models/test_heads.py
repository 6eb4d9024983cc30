"""The heads against their definitions, in loops."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from layer_checks import check_dropout, dropouts
from torch import Tensor, nn

from models.dilated import DilatedConv2d, shifted_products
from models.heads.aspp import ASPP, AtrousBranch
from models.heads.gate import StochasticGate
from models.heads.gci import GlobalCueInjection, first_maximum
from models.heads.ngwp import normalised_global_weighted_pooling, size_focal_penalty
from models.layers import FixedStatsBatchNorm2d, GlobalAveragePool


def random_maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def randomise(module: nn.Module) -> None:
    """Give every BatchNorm of the module statistics and affine parameters that matter."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            if layer.affine:
                nn.init.normal_(layer.weight, generator=generator)
                nn.init.normal_(layer.bias, generator=generator)


def slow_conv(maps: np.ndarray, weight: np.ndarray, dilation: int = 1) -> np.ndarray:
    """Convolution of B×C×H×W maps, zeros around them, that keeps their size."""
    batch, channels, height, width = maps.shape
    outputs, _, size, _ = weight.shape
    result = np.zeros((batch, outputs, height, width))
    for b, o, y, x in itertools.product(range(batch), range(outputs), range(height), range(width)):
        for c, i, j in itertools.product(range(channels), range(size), range(size)):
            v, u = y + (i - size // 2) * dilation, x + (j - size // 2) * dilation
            if 0 <= v < height and 0 <= u < width:
                result[b, o, y, x] += weight[o, c, i, j] * maps[b, c, v, u]
    return result


def slow_norm(maps: np.ndarray, norm: nn.BatchNorm2d, batch_statistics: bool) -> np.ndarray:
    result = np.zeros_like(maps)
    for c in range(maps.shape[1]):
        values = maps[:, c]
        mean, variance = norm.running_mean[c].item(), norm.running_var[c].item()
        if batch_statistics:
            mean = sum(values.flat) / values.size
            variance = sum((value - mean) ** 2 for value in values.flat) / values.size
        scale, shift = (norm.weight[c].item(), norm.bias[c].item()) if norm.affine else (1, 0)
        result[:, c] = (values - mean) / math.sqrt(variance + norm.eps) * scale + shift
    return result


def numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


class TestPooling:
    def test_class_by_class(self):
        logits, masks = random_maps(2, 4, 5, 7), random_maps(2, 4, 5, 7, seed=1).softmax(dim=1)
        found = normalised_global_weighted_pooling(logits, masks)
        assert found.shape == (2, 4)
        for b, c in itertools.product(range(2), range(4)):
            weighted, total = 0.0, 0.0
            for y, x in itertools.product(range(5), range(7)):
                weighted += logits[b, c, y, x].item() * masks[b, c, y, x].item()
                total += masks[b, c, y, x].item()
            assert found[b, c].item() == pytest.approx(weighted / (1 + total), rel=1e-12)

    def test_empty_mask_scores_zero(self):
        assert not normalised_global_weighted_pooling(
            random_maps(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
        ).any()


class TestSizeFocalPenalty:
    @pytest.mark.parametrize(("p", "lam"), [(3, 0.01), (5, 0.1), (0, 1e-5)])
    def test_class_by_class(self, p, lam):
        masks = random_maps(2, 4, 5, 7).softmax(dim=1)
        masks[0, 1] *= 0.01
        found = size_focal_penalty(masks, p, lam)
        assert found.shape == (2, 4)
        for b, c in itertools.product(range(2), range(4)):
            size = sum(value.item() for value in masks[b, c].flatten()) / 35
            expected = (1 - size) ** p * math.log(lam + size)
            assert found[b, c].item() == pytest.approx(expected, rel=1e-12)

    def test_empty_and_full_masks(self):
        masks = torch.zeros(1, 2, 3, 4, dtype=torch.float64)
        masks[:, 1] = 1
        masks.requires_grad_()
        penalty = size_focal_penalty(masks, 3, 0.01)
        assert penalty[0].tolist() == pytest.approx([math.log(0.01), 0])
        penalty.sum().backward()
        assert torch.isfinite(masks.grad).all()
        # the penalty asks an empty mask to grow
        assert (masks.grad[0, 0] > 0).all()


class TestStochasticGate:
    psi = 0.3

    def choices(self, deep: Tensor, shallow: Tensor) -> tuple[Tensor, Tensor]:
        return (deep - self.psi * shallow) / (1 - self.psi), shallow

    def draw(self, *shape: int) -> Tensor:
        """Where a training pass chose the deep features."""
        deep, shallow = random_maps(*shape), random_maps(*shape, seed=1)
        mixed = StochasticGate(self.psi)(deep, shallow)
        from_deep, from_shallow = self.choices(deep, shallow)
        chosen = mixed == from_deep
        assert (chosen ^ (mixed == from_shallow)).all()
        return chosen

    def check_share(self, hits: Tensor, share: float) -> None:
        # five standard deviations of a share of independent draws
        bound = 5 * math.sqrt(share * (1 - share) / hits.numel())
        assert abs(hits.double().mean().item() - share) < bound

    def test_evaluation(self):
        deep, shallow = random_maps(2, 3, 4, 5), random_maps(2, 3, 4, 5, seed=1)
        found = StochasticGate(self.psi).eval()(deep, shallow)
        for index in np.ndindex(2, 3, 4, 5):
            expected = 0.7 * deep[index].item() + 0.3 * shallow[index].item()
            assert found[index].item() == pytest.approx(expected, rel=1e-12)

    def test_training_chooses_one_of_two_values_with_the_given_frequency(self):
        torch.manual_seed(0)
        self.check_share(self.draw(4, 16, 40, 50), 1 - self.psi)

    def test_elements_are_drawn_independently(self):
        torch.manual_seed(1)
        chosen = self.draw(16, 16, 32, 32)
        both = (1 - self.psi) ** 2
        # images, channels, rows, columns: each agrees with its neighbour by chance only
        self.check_share(chosen[::2] & chosen[1::2], both)
        self.check_share(chosen[:, ::2] & chosen[:, 1::2], both)
        self.check_share(chosen[:, :, ::2] & chosen[:, :, 1::2], both)
        self.check_share(chosen[..., ::2] & chosen[..., 1::2], both)

    def test_each_call_draws_afresh(self):
        torch.manual_seed(2)
        shape = (4, 16, 40, 50)
        self.check_share(self.draw(*shape) & self.draw(*shape), (1 - self.psi) ** 2)

    def test_the_mean_over_many_draws_is_the_deep_features(self):
        torch.manual_seed(3)
        draws, shape = 20_000, (2, 3, 4, 5)
        deep, shallow = random_maps(*shape), random_maps(*shape, seed=1)
        repeated = [x.expand(draws, *shape) for x in (deep, shallow)]
        mean = StochasticGate(self.psi)(*repeated).mean(dim=0)
        from_deep, from_shallow = self.choices(deep, shallow)
        deviation = math.sqrt(self.psi * (1 - self.psi)) * (from_deep - from_shallow).abs()
        error = (mean - deep).abs()
        assert (error < 5 * deviation / math.sqrt(draws)).all()

    def test_gradients_go_where_the_values_came_from(self):
        torch.manual_seed(4)
        deep = random_maps(2, 3, 8, 9).requires_grad_()
        shallow = random_maps(2, 3, 8, 9, seed=1).requires_grad_()
        mixed = StochasticGate(self.psi)(deep, shallow)
        chosen = (mixed != shallow).detach()
        mixed.sum().backward()
        one, zero = torch.ones_like(deep), torch.zeros_like(deep)
        torch.testing.assert_close(deep.grad, torch.where(chosen, one / 0.7, zero))
        torch.testing.assert_close(shallow.grad, torch.where(chosen, -0.3 / 0.7 * one, one))

    @pytest.mark.parametrize("training", [True, False])
    def test_closed_gate_passes_the_deep_features(self, training):
        deep, shallow = random_maps(2, 3, 4, 5), random_maps(2, 3, 4, 5, seed=1)
        assert torch.equal(StochasticGate(0.0).train(training)(deep, shallow), deep)


class TestGlobalCueInjection:
    @pytest.mark.parametrize("training", [True, False])
    def test_against_loops(self, training):
        head = GlobalCueInjection(shallow=3, deep=4, outputs=2).double()
        randomise(head)
        head.train(training)
        shallow, deep = random_maps(2, 3, 6, 5), random_maps(2, 4, 3, 4, seed=1)

        def block(layers: nn.Sequential, maps: np.ndarray) -> np.ndarray:
            return slow_norm(slow_conv(maps, numbers(layers[0].weight)), layers[1], training)

        cues = np.maximum(block(head.fc_deep, numbers(deep)), 0)
        skip = block(head.fc_skip, numbers(shallow))
        injected = np.zeros_like(skip)
        for b, c, y, x in np.ndindex(*skip.shape):
            gamma = max(cues[b, c].flat)
            beta = max(cues[b, 2 + c].flat)
            injected[b, c, y, x] = max(skip[b, c, y, x] * (gamma + 1) + beta, 0)
        expected = np.maximum(block(head.fc_cls, injected), 0)
        np.testing.assert_allclose(numbers(head(shallow, deep)), expected, rtol=1e-9, atol=1e-12)

    def test_normalised_shallow_features_have_no_affine_parameters(self):
        head = GlobalCueInjection()
        assert head.fc_skip[1].weight is None and head.fc_skip[1].bias is None


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_maximum_on_a_gpu_is_that_of_the_cpu_with_the_same_gradient(layout):
    """Among equal values, such as the zeros that ReLU leaves, too."""
    maps = random_maps(2, 5, 4, 3).relu()
    maps[0, 1] = 0
    maps[1, 2, 1:3] = 7
    maps = maps.contiguous(memory_format=layout).requires_grad_()
    output_gradient = random_maps(2, 5, 1, 1, seed=1)
    found, expected = first_maximum(maps), nn.functional.adaptive_max_pool2d(maps, 1)
    assert torch.equal(found, expected)
    gradient, reference = (
        torch.autograd.grad(maxima, maps, output_gradient)[0] for maxima in (found, expected)
    )
    assert torch.equal(gradient, reference)
    assert gradient.is_contiguous(memory_format=layout)


def branch_and_maps(size: tuple[int, int]) -> tuple[AtrousBranch, Tensor]:
    torch.manual_seed(0)
    branch = AtrousBranch(nn.BatchNorm2d, 3, 2, dilation=12).double().eval()
    randomise(branch)
    return branch, random_maps(2, 3, *size).requires_grad_()


class TestASPP:
    @pytest.mark.parametrize("size", [(5, 4), (12, 12), (1, 12), (13, 2), (3, 14), (25, 1)])
    def test_a_branch_is_the_whole_convolution_on_maps_of_any_size(self, size):
        branch, maps = branch_and_maps(size)
        weight = branch.atrous_conv.weight
        whole = nn.functional.conv2d(maps, weight, padding=12, dilation=12)
        expected = torch.relu(branch.bn(whole))
        loss_weights = random_maps(*expected.shape, seed=1)
        wanted = torch.autograd.grad((expected * loss_weights).sum(), [maps, weight])
        found = branch(maps)
        gradients = torch.autograd.grad((found * loss_weights).sum(), [maps, weight])
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradients[0], wanted[0])
        torch.testing.assert_close(gradients[1], wanted[1])

    @pytest.mark.parametrize("size", [(5, 4), (14, 3), (2, 26), (38, 1)])
    def test_against_loops(self, size):
        torch.manual_seed(0)
        head = ASPP(nn.BatchNorm2d, inputs=2, outputs=2).double().eval()
        randomise(head)
        maps = random_maps(2, 2, *size)

        def block(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: np.ndarray, dilation: int = 1):
            convolved = slow_conv(x, numbers(conv.weight), dilation)
            return np.maximum(slow_norm(convolved, norm, batch_statistics=False), 0)

        branches = [
            block(branch.atrous_conv, branch.bn, numbers(maps), dilation)
            for branch, dilation in zip(
                (head.aspp1, head.aspp2, head.aspp3, head.aspp4), (1, 12, 24, 36), strict=True
            )
        ]
        pooled = np.zeros((2, 2, 1, 1))
        for b, c in itertools.product(range(2), range(2)):
            pooled[b, c] = sum(value.item() for value in maps[b, c].flatten()) / maps[b, c].numel()
        pooled = block(head.global_avg_pool[1], head.global_avg_pool[2], pooled)
        branches.append(np.tile(pooled, (1, 1, *size)))
        expected = block(head.conv1, head.bn1, np.concatenate(branches, axis=1))
        np.testing.assert_allclose(numbers(head(maps)), expected, rtol=1e-9, atol=1e-12)

    def test_dropout_of_single_elements_at_the_end(self):
        torch.manual_seed(0)
        head = ASPP(FixedStatsBatchNorm2d, inputs=4, outputs=32)
        maps = random_maps(2, 4, 6, 7).float()
        assert dropouts(head) == {"dropout": (nn.Dropout, 0.5)}
        with torch.no_grad():
            check_dropout(head.eval()(maps), head.train()(maps), 0.5, whole_channels=False)


class TestFixedStatsBatchNorm:
    def test_training_is_evaluation_with_trainable_affine_parameters(self):
        fixed, plain = FixedStatsBatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
        randomise(fixed)
        plain.load_state_dict(fixed.state_dict())
        before = {name: value.clone() for name, value in fixed.state_dict().items()}
        maps = random_maps(2, 3, 4, 5)
        found, expected = fixed.train()(maps), plain.eval()(maps)
        torch.testing.assert_close(found, expected)
        for name, value in fixed.state_dict().items():
            assert torch.equal(value, before[name]), name
        (found**2).sum().backward()
        assert fixed.weight.grad.abs().min() > 0
        assert fixed.bias.grad.abs().min() > 0


@pytest.mark.parametrize("size", [(9, 7), (1, 3), (2, 30), (13, 41), (40, 26)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_shifted_products_are_a_dilated_convolution(size: tuple[int, int], dtype) -> None:
    maps = random_maps(2, 24, *size).to(dtype).requires_grad_()
    weight = random_maps(5, 24, 3, 3, seed=1).to(dtype).requires_grad_()
    output_gradient = random_maps(2, 5, *size, seed=2).to(dtype)
    found = shifted_products(maps, weight, 12)
    gradients = torch.autograd.grad(found, (maps, weight), output_gradient)
    exact = [tensor.detach().double().requires_grad_() for tensor in (maps, weight)]
    expected = torch.nn.functional.conv2d(*exact, padding=12, dilation=12)
    assert found.dtype == dtype and found.shape == expected.shape
    # totals are float32, products and results are of the given type
    precision = 2e-2 if dtype == torch.bfloat16 else 1e-6
    scale = expected.abs().max().item()
    torch.testing.assert_close(found.double(), expected, rtol=precision, atol=precision * scale)
    slow = torch.autograd.grad(expected, exact, output_gradient.double())
    for gradient, reference in zip(gradients, slow, strict=True):
        scale = reference.abs().max().item()
        torch.testing.assert_close(
            gradient.double(), reference, rtol=precision, atol=precision * scale
        )


@pytest.mark.parametrize("lowered", ["autocast", "weights"])
def test_aspp_uses_shifted_products_where_16_bits_flow_on_a_cpu(lowered: str, monkeypatch) -> None:
    calls = []

    def counted(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        calls.append((x.dtype, weight.dtype, dilation))
        return shifted_products(x, weight, dilation)

    monkeypatch.setattr("models.dilated.shifted_products", counted)
    head, maps = ASPP(FixedStatsBatchNorm2d, 8, 4).eval(), random_maps(2, 8, 40, 41).float()
    expected = head(maps)
    assert not calls
    if lowered == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            found = head(maps)
    else:
        found = head.bfloat16()(maps.bfloat16())
    assert calls == [(torch.bfloat16, torch.bfloat16, dilation) for dilation in (12, 24, 36)]
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("inputs", "dilation", "gradients", "products"),
    [(8, 12, False, 1), (8, 4, True, 0), (1024, 4, False, 0), (1024, 4, True, 1)],
)
def test_which_dilated_convolutions_are_products_in_16_bits(
    inputs: int, dilation: int, gradients: bool, products: int, monkeypatch
) -> None:
    calls = []
    monkeypatch.setattr(
        "models.dilated.shifted_products", lambda *given: calls.append(shifted_products(*given))
    )
    maps = torch.zeros(1, inputs, 13, 14, dtype=torch.bfloat16, requires_grad=gradients)
    DilatedConv2d(inputs, 2, dilation).bfloat16()(maps)
    assert len(calls) == products


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_mean_over_space_has_a_gradient_in_the_layout_of_its_input(layout) -> None:
    maps = random_maps(2, 3, 5, 7).contiguous(memory_format=layout).requires_grad_()
    output_gradient = random_maps(2, 3, 1, 1, seed=1)
    found, expected = GlobalAveragePool()(maps), nn.AdaptiveAvgPool2d(1)(maps)
    torch.testing.assert_close(found, expected)
    gradient, reference = (
        torch.autograd.grad(pooled, maps, output_gradient)[0] for pooled in (found, expected)
    )
    torch.testing.assert_close(gradient, reference)
    assert gradient.is_contiguous(memory_format=layout)
