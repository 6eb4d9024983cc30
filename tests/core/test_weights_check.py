"""Weights of another network, damaged ones, and files of something else: what users are told."""

from dataclasses import replace

import pytest
import torch
from golden_recipe import entries
from small_network import SMALL, SmallNetwork, message, meta_network, save_shapes, shapes

from core.checkpoint import load_model, load_pretrained, save_model
from core.config import Config
from models import get_model
from models.backbones import BACKBONES


def test_a_file_that_does_not_match_names_both_sides(saved):
    path, content = saved
    del content["tail.bias"]
    content["ending.bias"] = torch.zeros(2)
    content["head.weight"] = torch.zeros(2, 5, 1, 1)
    content["1.num_batches_tracked"] = torch.zeros(1)
    torch.save(content, path)
    network = SmallNetwork()
    before = [parameter.clone() for parameter in network.parameters()]
    assert message(load_model, network, path) == (
        f"{path} does not fit: it is of no network known here; it lacks tail.bias; the network "
        "does not have ending.bias; 1.num_batches_tracked is 1, the network's is scalar, "
        "head.weight is 2×5×1×1, the network's is 2×4×1×1; 10 of the network's 13 entries match; "
        "take another snapshot"
    )
    assert all(map(torch.equal, before, network.parameters()))


@pytest.mark.parametrize("name", SMALL)
def test_every_entry_is_demanded(saved, name):
    path, content = saved
    torch.save({other: content[other] for other in content if other != name}, path)
    line = message(load_model, SmallNetwork(), path)
    assert f"; it lacks {name}; 12 of the network's 13 entries match; " in line


def test_another_network_is_summed_up(saved):
    path, _ = saved
    save_shapes(path, entries("vgg16", "bsl"))
    line = message(load_model, SmallNetwork(), path)
    assert "does not fit: it looks like a snapshot of bsl with vgg16; it lacks 0.weight, " in line
    assert "; it lacks 0.weight, 0.bias, 1.weight and 10 more; " in line
    assert "does not have conv1_1.weight, conv1_1.bias, conv1_2.weight and " in line
    assert line.endswith("; 0 of the network's 13 entries match; take another snapshot")


@pytest.mark.parametrize(
    ("needed", "other", "remedy"),
    [
        (("vgg16", "ae"), ("vgg16", "bsl"), "give --set NET.MODEL bsl"),
        (
            ("resnet50", "bsl"),
            ("resnet101", "bsl"),
            "set CONFIG (--cfg) to a configuration with NET.BACKBONE resnet101",
        ),
        (
            ("resnet101", "bsl"),
            ("resnet50", "ae"),
            "set CONFIG (--cfg) to a configuration with NET.BACKBONE resnet50 and give --set "
            "NET.MODEL ae",
        ),
        (("resnet38", "bsl"), ("resnet38", "ae"), "give --set NET.MODEL ae"),
    ],
)
def test_a_snapshot_of_another_network_names_both_and_a_remedy(tmp_path, needed, other, remedy):
    path = tmp_path / "model.pth"
    save_shapes(path, entries(*other))
    line = message(load_model, meta_network(*needed), path)
    both = "it looks like a snapshot of {1} with {0}, needed is a snapshot of {3} with {2}; "
    assert both.format(*other, *needed) in line
    assert line.endswith(f" entries match; {remedy}, or take another snapshot")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ae", "bsl"])
def test_a_snapshot_of_other_classes_is_told_from_one_of_another_network(
    tmp_path, model, thin_vgg16
):
    path = tmp_path / "model.pth"
    save_model(get_model(net_of(model), 4), path)
    line = message(load_model, get_model(net_of(model), 3), path)
    assert line.startswith(f"{path} is a snapshot of {model} with vgg16 of 3 objects")
    assert "data set has 2" in line and "--dataset" in line and len(line.split()) < 35
    # something else about it is wrong too
    state = torch.load(path, weights_only=True)
    torch.save({name: each for name, each in state.items() if name != "fc7.bias"}, path)
    line = message(load_model, get_model(net_of(model), 3), path)
    assert f"it is nearly a snapshot of {model} with vgg16; it lacks fc7.bias; " in line
    other = {"ae": "bsl", "bsl": "ae"}[model]
    line = message(load_model, get_model(net_of(other), 4), path)
    assert (
        f"it looks like a snapshot of {model} with vgg16, needed is a snapshot of {other}" in line
    )
    assert f"NET.MODEL {model}" in line


def net_of(model):
    return replace(Config().NET, MODEL=model, BACKBONE="vgg16")


def test_more_than_is_needed_does_not_read_like_success(tmp_path):
    path = tmp_path / "model.pth"
    save_shapes(path, [*entries("vgg16", "bsl"), ("extra.weight", (2,))])
    line = message(load_model, meta_network("vgg16", "bsl"), path)
    assert "; the network does not have extra.weight; 33 of the network's 33 entries" in line


def test_imagenet_weights_and_snapshots_are_told_apart(tmp_path):
    network = meta_network("vgg16", "ae")
    spec = BACKBONES["vgg16"]
    path = tmp_path / "model.pth"
    save_shapes(path, shapes(network.backbone.state_dict()).items())
    line = message(load_model, network, path)
    assert "it looks like ImageNet weights of vgg16, needed is a snapshot of ae with vgg16" in line
    assert line.endswith("; take another snapshot")
    save_shapes(path, entries("vgg16", "ae"))
    line = message(load_pretrained, network, spec, path)
    assert "it looks like a snapshot of ae with vgg16, needed is ImageNet weights of vgg16" in line
    assert line.endswith(
        "; `bash launch/get_weights.sh vgg16` puts them at models/weights/vgg16_20M.pth"
    )


def test_imagenet_weights_of_another_backbone(tmp_path):
    path = tmp_path / "weights.pth"
    other = meta_network("resnet50", "bsl").backbone.state_dict()
    save_shapes(path, [*shapes(other).items(), ("fc.weight", (1000, 2048))])
    line = message(load_pretrained, meta_network("vgg16", "ae"), BACKBONES["vgg16"], path)
    assert "it looks like ImageNet weights of resnet50, needed is ImageNet weights of vgg16" in line
    assert "with NET.BACKBONE resnet50, or `bash launch/get_weights.sh vgg16` puts them" in line


def test_a_damaged_snapshot_is_recognised_all_the_same(tmp_path):
    path = tmp_path / "model.pth"
    save_shapes(path, [pair for pair in entries("vgg16", "ae") if pair[0] != "fc6.bias"])
    assert message(load_model, meta_network("vgg16", "ae"), path) == (
        f"{path} does not fit: it is nearly a snapshot of ae with vgg16; it lacks fc6.bias; 110 of "
        "the network's 111 entries match; take another snapshot"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head.weight": torch.zeros(2, 4, 1, 1, dtype=torch.int64)}, "head.weight holds int64, "),
        ({"head.weight": torch.zeros(2, 4, 1, 1, dtype=torch.complex64)}, "holds complex64, the "),
        ({"1.num_batches_tracked": torch.zeros(())}, "holds float32, the network's int64; 12 of"),
    ],
)
def test_another_kind_of_number_is_refused(saved, change, words):
    path, content = saved
    torch.save({**content, **change}, path)
    assert words in message(load_model, SmallNetwork(), path)


def test_half_precision_loads(saved):
    path, content = saved
    halves = {name: tensor.half() for name, tensor in content.items() if tensor.dim()}
    torch.save({**content, **halves}, path)
    network = SmallNetwork()
    load_model(network, path)
    assert network.tail.weight.dtype == torch.float32
    assert torch.equal(network.tail.weight, content["tail.weight"].half().float())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(saved, value):
    path, content = saved
    content["1.running_var"][2] = value
    torch.save(content, path)
    assert message(load_model, SmallNetwork(), path) == (
        f"{path} holds weights that are not finite: 1.running_var; take another snapshot"
    )


def test_a_prefix_that_not_all_entries_have_is_a_name(saved):
    path, content = saved
    content["module.tail.bias"] = content.pop("tail.bias")
    torch.save(content, path)
    line = message(load_model, SmallNetwork(), path)
    assert "it lacks tail.bias; the network does not have module.tail.bias; 12 of" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "found an empty dictionary"),
        ({"epoch": 3, "weights": {"w": 1}}, "found a dictionary with 'epoch', 'w"),
        ({"w": torch.zeros(2), "extra": 3}, "but its entry 'extra' is an int"),
        pytest.param(
            {"w": torch.zeros(2).to_sparse()},
            "but its entry 'w' is a tensor of layout torch.sparse_coo",
            marks=pytest.mark.filterwarnings("ignore:Validating sparse"),
        ),
        ({"w": torch.zeros(2, device="meta")}, "but its entry 'w' is a tensor without values"),
        ([torch.zeros(2)], "found a list"),
        (torch.zeros(2), "found a Tensor"),
        (3, "found an int"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, words):
    path = tmp_path / "model.pth"
    torch.save(content, path)
    line = message(load_model, SmallNetwork(), path)
    start = f"{path} is no weights file: expected a dictionary of tensors, {words}"
    assert line.startswith(start)
    assert line.endswith("; take another file, or save the network's state_dict alone")
