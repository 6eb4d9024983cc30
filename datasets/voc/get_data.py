"""`python -m datasets.voc.get_data`: VOC 2012 and SBD under a data root, ready and verified.

Each is downloaded and unpacked, or taken from a copy: linked if that is a folder, unpacked if it is
an archive. SegmentationClassAug, a folder of PNG masks, may take SBD's place. Then SBD's masks are
converted, the lists written, and everything checked. What is there already stays; after an
interruption the same command goes on.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from datasets.prepare import prepare
from datasets.staging import DOWNLOADS, STAGING, clear_staging, staged
from datasets.voc.archives import SBD_TRAINVAL, VOC_TEST_IMAGES, VOC_TRAINVAL, ShippedDataset
from datasets.voc.check import check
from datasets.voc.layout import MINI_VOC_MARKER
from datasets.voc.sbd_aug import SBD_AUG_MASKS
from utils.archives import ArchiveError, unpack
from utils.download import Checksum, discard_download, download, verify
from utils.errors import UserError, os_errors_end_in, run_command
from utils.files import only_process, require_writable_folder, user_path
from utils.processes import available_cpus
from utils.transfer import AddressError, require_http


def main() -> None:
    args = parse_args()
    wanted = [
        (_with_mirror(VOC_TRAINVAL, args.voc, args.voc_url, args.voc_md5), args.voc),
        _sbd_or_aug(args),
    ]
    official = args.official
    if official is None:
        official = not (args.voc_url or args.sbd_url)
    root = args.root
    require_writable_folder(root, "DATA_ROOT")
    remedy = f"{root} and the copies that are named must be readable"
    with os_errors_end_in(remedy), only_process(root):
        if (root / MINI_VOC_MARKER).is_file():
            raise UserError(f"{root} holds mini-VOC; choose another DATA_ROOT")
        if args.voc_test or is_there(root, VOC_TEST_IMAGES):
            wanted.append((VOC_TEST_IMAGES, args.voc_test))
        obtain(root, wanted)
        workers = min(args.workers, available_cpus())
        prepare(root, workers)
        check(root, workers, official)
    print(f"{root} is ready")


def _sbd_or_aug(args: argparse.Namespace) -> tuple[ShippedDataset, Path | None]:
    """SBD, or SegmentationClassAug where that is given or there, and the copy that is named."""
    sbd = _with_mirror(SBD_TRAINVAL, args.sbd, args.sbd_url, args.sbd_md5)
    aug, root = args.sbd_aug, args.root
    if aug and (args.sbd or args.sbd_url):
        raise UserError("SBD_AUG takes the place of SBD: give SBD_AUG alone, or SBD or SBD_URL")
    if aug and not aug.is_dir():
        raise UserError(f"SBD_AUG={aug}: there is no such folder; name that of the PNG masks")
    tops = {each: root / each.top for each in (SBD_TRAINVAL, SBD_AUG_MASKS)}
    # an empty folder is nothing, and makes way
    there = [
        each
        for each, top in tops.items()
        if top.is_symlink() or (top.exists() and any(top.iterdir()))
    ]
    wants_sbd = args.sbd or args.sbd_url or there != [SBD_AUG_MASKS]
    wanted = SBD_TRAINVAL if wants_sbd and not aug else SBD_AUG_MASKS
    for other in there:
        if other != wanted:
            raise UserError(
                f"{tops[other]} is there already, whose place {wanted.name} would take; remove the "
                f"former, or leave {wanted.variable} out"
            )
    return (wanted, aug) if wanted == SBD_AUG_MASKS else (sbd, args.sbd)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.voc.get_data", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--root", type=user_path, default=Path("data"), help="the data root")
    for name, what in (("voc", "VOC 2012"), ("sbd", "SBD"), ("voc-test", "VOC 2012's test set")):
        parser.add_argument(f"--{name}", type=_copy, help=f"a copy of {what}: folder or archive")
    parser.add_argument("--sbd-aug", type=_copy, help="SegmentationClassAug, a folder of PNG masks")
    for name in ("voc", "sbd"):
        parser.add_argument(f"--{name}-url", default="", help="another address of its archive")
        parser.add_argument(f"--{name}-md5", default="", help="the MD5 of its archive, if another")
    parser.add_argument(
        "--official",
        action=argparse.BooleanOptionalAction,
        help="demand the official numbers of images (default: unless an address is given)",
    )
    cpus = available_cpus()
    parser.add_argument("--workers", type=int, default=cpus, help="processes (default: CPUs)")
    args = parser.parse_args()
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: give at least 1")
    return args


def _copy(text: str) -> Path | None:
    """A path to a copy; the launch script gives an empty one where there is none."""
    return user_path(text).absolute() if text else None


def _with_mirror(dataset: ShippedDataset, given: Path | None, url: str, md5: str) -> ShippedDataset:
    """The data set, its source replaced by what the user names."""
    variable, source = dataset.variable, dataset.source
    if given and url:
        raise UserError(f"{variable} and {variable}_URL are both set: give a copy or an address")
    if url:
        try:
            require_http(url)
        except AddressError as error:
            raise UserError(f"{variable}_URL={url}: {error}; give one of the archive") from error
    if md5 and not re.fullmatch("[0-9a-fA-F]{32}", md5):
        raise UserError(f"{variable}_MD5={md5} is no MD5 checksum: give its 32 hexadecimal digits")
    urls = (url,) if url else source.urls
    return replace(dataset, source=replace(source, urls=urls, md5=md5 or source.md5))


def obtain(root: Path, wanted: list[tuple[ShippedDataset, Path | None]]) -> None:
    """Bring the data sets under `root`, each from a copy of the user's or else from its source.

    What is there already stays. Each is put in place in one step, when all its files are there.

    Raises:
        UserError: one cannot be had, what there is of it is not whole, or its copy is another.
    """
    clear_staging(root)
    # all of them before the first step: a mistake should not show after hours of downloading
    steps = [plan(root, dataset, given) for dataset, given in wanted]
    with os_errors_end_in(
        f"see that there is room, and that {root} can be written to; the same command goes on "
        "from here"
    ):
        for (dataset, given), step in zip(wanted, steps, strict=True):
            step()
            _discard_download(root, dataset, given)


def plan(root: Path, dataset: ShippedDataset, given: Path | None) -> Callable[[], None]:
    """What brings a data set under `root`, once everything about `given` has been checked.

    `given` is a folder, an archive, or None for a data set that is there or can be downloaded.
    """
    variable = dataset.variable
    if given and not given.exists():
        raise UserError(f"{variable}={given}: there is no such folder or archive; name another")
    if is_there(root, dataset):
        if given and given.is_dir():
            _require_same(root, dataset, given)
        return partial(print, f"{dataset.name} is at {root / dataset.top}")
    if not given:
        return partial(download_and_unpack, root, dataset)
    if given.is_dir():
        found = _locate(root, dataset, given)
        dataset.require_whole(found, f"{variable}={given} leads to {found}; name a whole copy")
        return partial(link, root, dataset, found)
    if dataset.source:
        checksum = Checksum("md5", dataset.source.md5)
        remedy = f"name another archive, or give its checksum as {variable}_MD5"
        verify(given, checksum, dataset.name, remedy)
    return partial(unpack_into_place, root, dataset, given, f"name another with {variable}=PATH")


def is_there(root: Path, dataset: ShippedDataset) -> bool:
    """Whether `root` has the data set; a `UserError` if it has something else in its place."""
    top = root / dataset.top
    if top.is_symlink() and not top.exists():
        raise UserError(f"{top} leads to {top.readlink()}, which does not exist; mend or remove it")
    if not top.exists():
        return False
    if top.is_dir() and not top.is_symlink() and not any(top.iterdir()):
        top.rmdir()
        return False
    dataset.require_whole(
        root / dataset.path,
        f"remove {top}, or move it away, and run this again; {dataset.variable}=DIR before the "
        "command links a copy, whichever folder of it DIR is",
    )
    return True


def _require_same(root: Path, dataset: ShippedDataset, given: Path) -> None:
    there = root / dataset.links[0]
    wanted = _locate(root, dataset, given) / dataset.links[0].relative_to(dataset.path)
    if not there.samefile(wanted):
        top = root / dataset.top
        raise UserError(
            f"{dataset.variable}={given} is not what {top} holds already ({there.resolve()}); "
            f"remove {top} first, or leave {dataset.variable} out"
        )


def _locate(root: Path, dataset: ShippedDataset, given: Path) -> Path:
    return dataset.locate(given, own=root.resolve() / dataset.top)


def link(root: Path, dataset: ShippedDataset, found: Path) -> None:
    """Link the copy whose folder `found` corresponds to the data set's path."""
    with staged(root) as staging:
        for path in dataset.links:
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            (staging / path).symlink_to(found / path.relative_to(dataset.path))
        _place(root, dataset)
    print(f"{dataset.name}: {root / dataset.path} links to {found}")


def download_and_unpack(root: Path, dataset: ShippedDataset) -> None:
    """Bring the data set from the first of its addresses that has it."""
    source, variable = dataset.source, dataset.variable
    archive = root / DOWNLOADS / source.filename
    download(
        source.urls,
        archive,
        source.name,
        Checksum("md5", source.md5),
        remedy=f"try again later, or name a mirror with {variable}_URL=ADDRESS (and {variable}_MD5 "
        f"if its archive is another), or a copy with {variable}=PATH",
    )
    try:
        unpack_into_place(
            root,
            dataset,
            archive,
            f"it is removed; name another address with {variable}_URL=ADDRESS, or a copy with "
            f"{variable}=PATH",
        )
    except UserError:
        # its checksum is right, so that it would stay as bad
        discard_download(archive)
        raise


def unpack_into_place(root: Path, dataset: ShippedDataset, archive: Path, remedy: str) -> None:
    """Unpack an archive; a `UserError` that ends in `remedy` if it is not one of the data set."""
    with staged(root) as staging:
        try:
            unpack(archive, staging / dataset.top, dataset.name)
        except ArchiveError as error:
            raise UserError(f"{error}; {remedy}") from error
        dataset.require_whole(
            staging / dataset.path, f"{archive} does not hold all of it; {remedy}"
        )
        _place(root, dataset)
    print(f"{dataset.name}: unpacked to {root / dataset.top}")


def _place(root: Path, dataset: ShippedDataset) -> None:
    """Move the data set that was staged, and is whole, into the data root."""
    (root / STAGING / dataset.top).rename(root / dataset.top)


def _discard_download(root: Path, dataset: ShippedDataset, given: Path | None) -> None:
    """Remove the archive of a data set that is in place, and what is left of its download."""
    if dataset.source:
        archive = root / DOWNLOADS / dataset.source.filename
        if given is None or given.resolve() != archive.resolve():
            discard_download(archive)
        with suppress(OSError):  # it is not there, is not empty, or is a link of the user's
            (root / DOWNLOADS).rmdir()


if __name__ == "__main__":
    run_command(main)
