"""Training samples: what is random, what is not, and what reaches the network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from core.distributed import interleave
from datasets.labels import labels_of_list, read_mask_facts
from datasets.lists import ListEntry
from datasets.samples import EpochSampler, ImageLevelSamples, load_batch, mix_seed
from datasets.transforms import (
    PublishedRandomCrop,
    draw_crop,
    normalise,
    to_pixels,
    train_transform,
    unit_range,
    val_transform,
)
from datasets.voc import PASCAL_VOC


@pytest.fixture
def entries(tmp_path):
    """Eight 40×60 images, each with object i + 1 in its lower right corner, and 255."""
    found = []
    for index in range(8):
        pixels = np.random.RandomState(index).randint(0, 256, (40, 60, 3), dtype=np.uint8)
        mask = np.zeros((40, 60), dtype=np.uint8)
        mask[-2:, -2:] = index + 1
        mask[0, 0] = 255
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        Image.fromarray(mask).save(tmp_path / f"{index}_mask.png")
        found.append(ListEntry(tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"))
    return found


def samples(entries, transform=None, seed=1):
    found = ImageLevelSamples(entries, transform or train_transform(24, 0.5, 1.0), seed)
    facts = [read_mask_facts(entry) for entry in entries]
    found.labels = labels_of_list("list.txt", entries, facts, PASCAL_VOC)
    return found


def test_labels_come_from_the_whole_mask(entries):
    transform = train_transform(24, 0.01, 0.02)  # such a crop rarely meets the object
    for index in range(8):
        _, labels = samples(entries, transform)[0, index]
        expected = torch.zeros(20)
        expected[index] = 1
        assert torch.equal(labels, expected)


def test_training_views_are_in_range_and_differ_by_epoch_index_and_seed(entries):
    data = samples(entries)
    image, _ = data[0, 0]
    assert image.shape == (3, 24, 24)
    assert image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1 and image.max() > 0.5
    assert torch.equal(image, data[0, 0][0])
    assert not torch.equal(image, data[1, 0][0])
    assert not torch.equal(image, samples(entries, seed=2)[0, 0][0])
    twin = samples([entries[0], entries[0]])
    assert not torch.equal(twin[0, 0][0], twin[0, 1][0])


def test_sampling_leaves_the_global_random_state_alone(entries):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    samples(entries)[0, 3]
    assert torch.equal(torch.get_rng_state(), before)


def test_views_of_bytes_are_those_in_the_unit_range(entries):
    """Bit by bit, though a quarter of the bytes goes from process to process."""
    keys = [(2, index) for index in range(8)]
    plain, labels = load_batch(samples(entries), keys)
    as_bytes = samples(entries, train_transform(24, 0.5, 1.0, torch.uint8))
    views, same_labels = load_batch(as_bytes, keys)
    assert (plain.dtype, plain.shape, labels.shape) == (np.float32, (8, 3, 24, 24), (8, 20))
    assert views.dtype == np.uint8 and len(np.unique(views)) > 100
    np.testing.assert_array_equal(unit_range(torch.from_numpy(views)).numpy(), plain)
    np.testing.assert_array_equal(labels, same_labels)
    with Image.open(entries[0].image) as image:
        whole = val_transform(24, torch.uint8)(image)
        assert torch.equal(unit_range(whole), val_transform(24)(image))


def test_random_views_mirror_half_of_the_time_and_jitter_colours():
    """On an image that is dark left and bright right, mirroring shows in the halves' means."""
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:, 20:] = 180
    transform = train_transform(16, 0.9, 1.0)
    torch.manual_seed(0)
    views = torch.stack([transform(Image.fromarray(pixels)) for _ in range(200)])
    flipped = (views[..., :8].mean((1, 2, 3)) > views[..., 8:].mean((1, 2, 3))).float().mean()
    assert 0.35 < flipped < 0.65
    bright = views.amax((1, 2, 3))
    assert bright.std() > 0.03  # brightness varies by up to 30 %
    assert not torch.allclose(bright, torch.tensor(180 / 255), atol=0.02)


def test_random_crops_keep_to_the_configured_share_of_the_area():
    """The image's red channel holds its row, the green one its column: corners tell the crop."""
    size, low, high = 200, 0.3, 0.6
    rows, columns = np.mgrid[:size, :size]
    pixels = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    transform = train_transform(100, low, high)
    # without its colour jitter
    transform.transforms = [step for step in transform.transforms if "Jitter" not in str(step)]
    torch.manual_seed(1)
    for _ in range(50):
        view = transform(Image.fromarray(pixels)) * 255
        height = (view[0].amax() - view[0].amin() + 1) / size
        width = (view[1].amax() - view[1].amin() + 1) / size
        assert low - 0.03 < height * width < high + 0.03
        assert 0.72 < width / height < 1.38


def pillow_crop(image: Image.Image, crop_size: int, scale: tuple[float, float]) -> Image.Image:
    top, left, height, width = draw_crop((image.height, image.width), scale)
    part = image.crop((left, top, left + width, top + height))
    return part.resize((crop_size, crop_size), Image.Resampling.BICUBIC)


def test_training_views_are_those_of_pillow_but_for_rounding():
    """The same seed gives the same mirroring and colours as torchvision on Pillow images."""
    coarse = np.random.RandomState(0).randint(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((100, 75), Image.Resampling.BICUBIC)
    pillow = v2.Compose(
        [
            lambda image: pillow_crop(image, 48, (0.5, 1)),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
            v2.PILToTensor(),
        ]
    )
    ours = train_transform(48, 0.5, 1)
    distances = []
    for seed in range(20):
        torch.manual_seed(seed)
        expected = pillow(image).float()
        torch.manual_seed(seed)
        distances.append((255 * ours(image) - expected).abs())
    distances = torch.stack(distances)
    assert (distances > 0.5).float().mean() < 0.03
    # a level's difference before the colours change may grow to a few by it
    assert (distances > 2.5).float().mean() < 0.002 and distances.max() < 10


def test_resized_crops_are_those_of_pillow_within_two_levels():
    pixels = np.random.RandomState(0).randint(0, 256, (60, 80, 3), dtype=np.uint8)
    crop = PublishedRandomCrop(32, (0.5, 1))
    for seed in range(20):
        torch.manual_seed(seed)
        expected = np.asarray(pillow_crop(Image.fromarray(pixels), 32, (0.5, 1))).astype(int)
        torch.manual_seed(seed)
        found = crop(torch.from_numpy(pixels).permute(2, 0, 1)).permute(1, 2, 0).numpy()
        assert np.abs(found - expected).max() <= 2


def test_validation_views_are_the_whole_image_resized_bicubically(entries):
    image = Image.open(entries[0].image)
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)) / 255
    found = val_transform(32)(image)
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() < 1e-6
    assert torch.equal(found, val_transform(32)(image))


def test_normalise_against_numpy():
    raw = torch.rand(2, 3, 4, 5)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (raw.permute(0, 2, 3, 1).numpy() - mean) / deviation
    assert np.allclose(normalise(raw).permute(0, 2, 3, 1), expected, atol=1e-5)
    assert unit_range(to_pixels(Image.new("RGB", (2, 1), (255, 0, 51)))).flatten().tolist() == (
        pytest.approx([1, 1, 0, 0, 0.2, 0.2])
    )


def test_sampler_gives_every_index_once_in_an_order_of_the_epoch():
    sampler = EpochSampler(50, seed=3, batch_size=5)
    orders = []
    for epoch in (0, 1, 0):
        sampler.epoch = epoch
        keys = list(sampler)
        assert {key[0] for key in keys} == {epoch}
        orders.append([index for _, index in keys])
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] == orders[2] != orders[1]
    assert [index for _, index in EpochSampler(5, 0, batch_size=None)] == [0, 1, 2, 3, 4]


def test_seeds_of_neighbours_differ():
    seeds = {
        mix_seed(seed, epoch, index)
        for seed in range(5)
        for epoch in range(5)
        for index in range(40)
    }
    assert len(seeds) == 1000


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_have_parts_of_the_batches_that_one_would_have(processes):
    alone = EpochSampler(50, 3, batch_size=6)
    shared = [EpochSampler(50, 3, 6, rank, processes) for rank in range(processes)]
    for epoch in (0, 4):
        for sampler in (alone, *shared):
            sampler.epoch = epoch
        whole = list(alone)
        assert len(whole) == len(alone) == 48 and len(set(whole)) == 48
        parts = [iter(sampler) for sampler in shared]
        assert {len(sampler) for sampler in shared} == {48 // processes}
        for first in range(0, 48, 6):
            share = [[next(part) for _ in range(6 // processes)] for part in parts]
            assert [key for some in share for key in some] == whole[first : first + 6]
        assert all(next(part, None) is None for part in parts)


def test_processes_validate_each_sample_once():
    shared = [EpochSampler(11, 0, None, rank, 3) for rank in range(3)]
    assert [len(sampler) for sampler in shared] == [4, 4, 3]
    indices = [[index for _, index in sampler] for sampler in shared]
    assert sorted(index for part in indices for index in part) == list(range(11))
    dealt = interleave([torch.tensor(part) for part in indices])
    assert dealt.tolist() == list(range(11))


def test_several_passes_show_each_image_as_often_in_other_views(entries):
    data, once = samples(entries), samples(entries)
    data.passes = 3
    assert len(data) == 24
    for index in range(24):
        (image, labels), (_, expected) = data[0, index], once[0, index % 8]
        assert torch.equal(labels, expected)
        if index < 8:
            assert torch.equal(image, once[0, index][0])
        else:
            assert not torch.equal(image, once[0, index % 8][0])
    order = EpochSampler(len(data), 5, batch_size=8).indices()
    assert sorted(order % 8) == sorted(3 * list(range(8)))
