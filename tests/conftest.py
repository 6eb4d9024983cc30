"""What tests of several folders share."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets.mini_voc.generate import MiniVocSettings, generate
from datasets.prepare import prepare


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker starts on a long one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_works() -> Iterator[None]:
    """A shell's background jobs ignore Ctrl-C, and so would the commands that tests interrupt."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def thin_vgg16() -> Iterator[None]:
    """Gives the vgg16 that is built an eighth of its channels."""
    from thin_train import thin_networks  # not at the top: it imports PyTorch

    with thin_networks():
        yield


@pytest.fixture(scope="session")
def mini_voc(tmp_path_factory) -> Path:
    """A small mini-VOC, prepared: the data root."""
    root = tmp_path_factory.mktemp("mini voc")
    generate(root, MiniVocSettings(seed=1, train=40, val=20))
    prepare(root)
    return root
