"""`python -m datasets.get_data`: VOC 2012 and SBD under a data root, ready and verified.

Each is downloaded and unpacked, or taken from a copy: linked if that is a folder, unpacked if it is
an archive. Then SBD's masks are converted, the lists written, and everything checked. What is there
already stays; after an interruption the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from datasets.check import check
from datasets.collection import SBD_TRAINVAL, VOC_TEST_IMAGES, VOC_TRAINVAL, Collection
from datasets.layout import MINI_VOC_MARKER
from datasets.prepare import prepare
from utils.archives import unpack
from utils.download import Checksum, download, verify
from utils.errors import UserError, run_command
from utils.files import only_process, require_writable_folder

# in the data root, while archives are downloaded and unpacked
DOWNLOADS = Path("downloads")
STAGING = Path(".unpacking")


def main() -> None:
    args = parse_args()
    voc = _with_mirror(VOC_TRAINVAL, args.voc, args.voc_url, args.voc_md5)
    sbd = _with_mirror(SBD_TRAINVAL, args.sbd, args.sbd_url, args.sbd_md5)
    root, workers = args.root, min(args.workers, os.cpu_count() or 1)
    require_writable_folder(root, "DATA_ROOT")
    if (root / MINI_VOC_MARKER).is_file():
        raise UserError(f"{root} holds mini-VOC; choose another DATA_ROOT")
    try:
        with only_process(root):
            obtain(root, voc, args.voc)
            obtain(root, sbd, args.sbd)
            if args.voc_test or (root / VOC_TEST_IMAGES.top).exists():
                obtain(root, VOC_TEST_IMAGES, args.voc_test)
            prepare(root, workers)
            official = not (args.any_number or args.voc_url or args.sbd_url)
            check(root, workers, official)
    except OSError as error:
        raise UserError(
            f"{error}; see that there is room, and that {root} can be written to; the same command "
            "goes on from here"
        ) from error
    print(f"{root} is ready")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m datasets.get_data", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data"), help="the data root")
    for name, what in (("voc", "VOC 2012"), ("sbd", "SBD"), ("voc-test", "VOC 2012's test set")):
        parser.add_argument(f"--{name}", type=_copy, help=f"a copy of {what}: folder or archive")
    for name in ("voc", "sbd"):
        parser.add_argument(f"--{name}-url", default="", help="another address of its archive")
        parser.add_argument(f"--{name}-md5", default="", help="the MD5 of its archive, if another")
    parser.add_argument(
        "--any-number",
        action="store_true",
        help="take data sets of another number of images than the official ones",
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (default: CPUs)"
    )
    args = parser.parse_args()
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: give at least 1")
    return args


def _copy(text: str) -> Path | None:
    """A path to a copy; the launch script gives an empty one where there is none."""
    return Path(text).expanduser().absolute() if text else None


def _with_mirror(collection: Collection, given: Path | None, url: str, md5: str) -> Collection:
    """The collection, its source replaced by what the user names."""
    if given and url:
        variable = collection.variable
        raise UserError(f"{variable} and {variable}_URL are both set: give a copy or an address")
    source = collection.source
    urls = (url,) if url else source.urls
    return replace(collection, source=replace(source, urls=urls, md5=md5 or source.md5))


def obtain(root: Path, collection: Collection, given: Path | None) -> None:
    """Bring a collection under `root`, from the copy `given` or else from its source.

    What is there already stays. It is put in place in one step, when all its files are there.

    Raises:
        UserError: it cannot be had, what there is of it is not whole, or `given` is another copy.
    """
    if given and not given.exists():
        raise UserError(f"{collection.variable}={given}: there is no such folder or archive")
    if is_there(root, collection):
        if given and given.is_dir():
            _require_same(root, collection, given)
        print(f"{collection.name} is at {root / collection.top}")
    elif given and given.is_dir():
        link(root, collection, given)
    elif given:
        place_archive(root, collection, given)
    else:
        fetch(root, collection)
    _discard_download(root, collection)


def is_there(root: Path, collection: Collection) -> bool:
    """Whether `root` has the collection; a `UserError` if it has something else in its place."""
    top = root / collection.top
    if top.is_symlink() and not top.exists():
        raise UserError(f"{top} leads to {top.readlink()}, which does not exist; mend or remove it")
    if not top.exists():
        return False
    if top.is_dir() and not top.is_symlink() and not any(top.iterdir()):
        top.rmdir()
        return False
    collection.require_whole(
        root,
        f"remove {top}, or move it away, and run this again; {collection.variable}=DIR before the "
        "command links a copy, whichever folder of it DIR is",
    )
    return True


def _require_same(root: Path, collection: Collection, given: Path) -> None:
    there = root / collection.links[0]
    wanted = collection.locate(given) / collection.links[0].relative_to(collection.path)
    if not there.samefile(wanted):
        top = root / collection.top
        raise UserError(
            f"{collection.variable}={given} is not what {top} holds already ({there.resolve()}); "
            f"remove {top} first, or leave {collection.variable} out"
        )


def link(root: Path, collection: Collection, given: Path) -> None:
    """Link the copy that the folder `given` is, holds or lies in."""
    found = collection.locate(given)
    with _staging(root) as staging:
        for path in collection.links:
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            (staging / path).symlink_to(found / path.relative_to(collection.path))
        _place(root, collection, f"it is what {collection.variable}={given} leads to")
    print(f"{collection.name}: {root / collection.path} links to {found}")


def fetch(root: Path, collection: Collection) -> None:
    """Download the collection's archive and unpack it."""
    source = collection.source
    archive = root / DOWNLOADS / source.filename
    download(source.urls, archive, source.name, Checksum("md5", source.md5))
    _unpack(root, collection, archive)


def place_archive(root: Path, collection: Collection, archive: Path) -> None:
    """Unpack an archive of the user's, once its checksum is verified where one is known."""
    if collection.source:
        verify(archive, Checksum("md5", collection.source.md5), collection.name)
    _unpack(root, collection, archive)


def _unpack(root: Path, collection: Collection, archive: Path) -> None:
    with _staging(root) as staging:
        unpack(archive, staging / collection.top, collection.name)
        _place(root, collection, f"{archive} does not hold all of it")
    print(f"{collection.name}: unpacked to {root / collection.top}")


@contextmanager
def _staging(root: Path) -> Iterator[Path]:
    """A fresh folder in the data root to put a collection together in, as if it were the root."""
    staging = root / STAGING
    if staging.exists():  # a killed run left it
        shutil.rmtree(staging)
    staging.mkdir()
    try:
        yield staging
    finally:
        shutil.rmtree(staging)


def _place(root: Path, collection: Collection, remedy: str) -> None:
    """Move the collection that was staged into the data root, if it is whole."""
    collection.require_whole(root / STAGING, remedy)
    (root / STAGING / collection.top).rename(root / collection.top)


def _discard_download(root: Path, collection: Collection) -> None:
    """Remove the archive of a collection that is in place, and what is left of its download."""
    if collection.source:
        for path in (root / DOWNLOADS).glob(f"{collection.source.filename}*"):
            path.unlink()
        if (root / DOWNLOADS).is_dir() and not any((root / DOWNLOADS).iterdir()):
            (root / DOWNLOADS).rmdir()


if __name__ == "__main__":
    run_command(main)
