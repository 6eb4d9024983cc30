"""ImageNet weights: what of a file goes to the backbone."""

import pytest
import torch
from small_network import SPEC, SmallNetwork, message

from core.checkpoint import load_pretrained


@pytest.fixture
def imagenet():
    """ImageNet weights for the small network's backbone, as an old file has them."""
    backbone = SmallNetwork().backbone.state_dict()
    del backbone["1.num_batches_tracked"]
    return {**backbone, "fc8.weight": torch.zeros(9, 4), "fc9.bias": torch.zeros(9)}


def test_pretrained_weights_go_to_the_backbone(tmp_path, imagenet):
    path = tmp_path / "small.pth"
    torch.save(imagenet, path)
    network = SmallNetwork()
    head = network.head.weight.clone()
    network.backbone[1].num_batches_tracked += 3
    line = load_pretrained(network, SPEC, path)
    assert line == (
        f"{path}: 6 entries loaded, BatchNorm counters set anew; left out: fc8.weight, fc9.bias"
    )
    assert network.backbone[1].num_batches_tracked == 0
    for name in ("0.weight", "0.bias", "1.running_mean", "1.weight"):
        assert torch.equal(network.backbone.state_dict()[name], imagenet[name])
    assert torch.equal(network.head.weight, head)


def test_pretrained_weights_without_a_classifier(tmp_path, imagenet):
    path = tmp_path / "small.pth"
    torch.save({name: imagenet[name] for name in imagenet if not name.startswith("fc")}, path)
    assert load_pretrained(SmallNetwork(), SPEC, path).endswith("left out: none")


def test_batch_counters_that_the_file_has_are_kept(tmp_path, imagenet):
    path = tmp_path / "small.pth"
    torch.save({**imagenet, "1.num_batches_tracked": torch.tensor(9)}, path)
    network = SmallNetwork()
    line = load_pretrained(network, SPEC, path)
    assert line == f"{path}: 7 entries loaded; left out: fc8.weight, fc9.bias"
    assert network.backbone[1].num_batches_tracked == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"0.bias": None}, "it lacks 0.bias"),
        ({"1.running_mean": None}, "it lacks 1.running_mean"),
        ({"fc7.weight": torch.zeros(2)}, "the network does not have fc7.weight"),
        ({"0.bias": torch.zeros(5)}, "0.bias is 5, the network's is 4"),
    ],
)
def test_pretrained_weights_of_another_network(tmp_path, imagenet, change, words):
    path = tmp_path / "small.pth"
    changed = imagenet | change
    torch.save({name: changed[name] for name in changed if changed[name] is not None}, path)
    line = message(load_pretrained, SmallNetwork(), SPEC, path)
    assert line.startswith(f"{path} does not fit: ") and f"; {words}; " in line
    assert line.endswith(
        "entries match; `bash launch/get_weights.sh small` puts them at models/weights/small.pth"
    )


def test_missing_pretrained_weights_say_where_to_get_them(tmp_path):
    path = tmp_path / "none.pth"
    line = message(load_pretrained, SmallNetwork(), SPEC, path)
    for words in ("NET.PRE_WEIGHTS_PATH", "models/weights/small.pth", "NET.FREEZE_BN False"):
        assert words in line
    assert str(path) in line and "`bash launch/get_weights.sh small`" in line


def test_a_folder_in_place_of_pretrained_weights(tmp_path):
    line = message(load_pretrained, SmallNetwork(), SPEC, tmp_path)
    assert line.startswith(f"NET.PRE_WEIGHTS_PATH {tmp_path} is a directory; ")
    assert "models/weights/small.pth" in line
