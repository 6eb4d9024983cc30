"""`python -m datasets.coco.get_data`: MS COCO 2014 under a data root, ready and verified.

Its parts are downloaded and unpacked one after the other, or a copy is linked. Then masks are
painted, the lists written, and everything checked. What is there already stays; after an
interruption the same command goes on.
"""

from __future__ import annotations

import argparse
import shutil
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from datasets.coco.annotations import CocoImage, lacking_files, read_annotations
from datasets.coco.archives import ARCHIVES, GB, Archive
from datasets.coco.check import check_coco
from datasets.coco.layout import SPLITS, TOP, VAL, Split, is_mini_coco
from datasets.coco.masks import link_masks, require_pycocotools
from datasets.coco.prepare import prepare_coco
from datasets.staging import DOWNLOADS, clear_staging, staged
from datasets.voc.errors import DataError
from utils.archives import ArchiveError, unpack
from utils.download import Checksum, discard_download, download, part_of
from utils.errors import UserError, os_errors_end_in, run_command
from utils.files import only_process, require_writable_folder, user_path
from utils.processes import available_cpus
from utils.transfer import AddressError, held_bytes, require_http

Images = dict[Split, list[CocoImage]]
"""What the annotations say, filled when they are looked at: to read them takes a while."""

OTHERWISE = "name a mirror with COCO_URL=ADDRESS, or a copy with COCO=PATH"


def main() -> None:
    args = parse_args()
    root = args.root
    official = not args.coco_url if args.official is None else args.official
    require_writable_folder(root, "DATA_ROOT")
    remedy = f"{root} and the copies that are named must be readable"
    with os_errors_end_in(remedy), only_process(root):
        if is_mini_coco(root):
            raise UserError(f"{root} holds mini-COCO; choose another DATA_ROOT")
        # before hours of downloading
        if args.masks:
            link_masks(root, args.masks)
        elif not (root / VAL.masks).is_symlink():
            require_pycocotools()
        obtain(root, args.coco, args.coco_url, official)
        workers = min(args.workers, available_cpus())
        parts = prepare_coco(root, workers, args.train_masks)
        check_coco(root, workers, official, parts)
    print(f"{root} is ready")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.coco.get_data", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("--root", type=user_path, default=Path("data"), help="the data root (default: data)")
    add("--coco", type=_folder, help="a copy: train2014, val2014 and annotations are in it")
    add("--coco-url", default="", help="a mirror: the address of a folder with the archives")
    add("--masks", type=_folder, help="a folder of masks, in place of those painted here")
    add("--train-masks", action="store_true", help="masks of the training images, too")
    add(
        "--official",
        action=argparse.BooleanOptionalAction,
        help="demand the official checksums and numbers of images (default: unless a mirror is "
        "named)",
    )
    cpus = available_cpus()
    add("--workers", type=int, default=cpus, help="processes (default: CPUs)")
    args = parser.parse_args()
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: give at least 1")
    if args.coco and args.coco_url:
        raise UserError("COCO and COCO_URL are both set: give a copy or an address")
    if args.coco_url:
        try:
            require_http(args.coco_url)
        except AddressError as error:
            raise UserError(
                f"COCO_URL={args.coco_url}: {error}; give one of a folder with the archives"
            ) from error
    return args


def _folder(text: str) -> Path | None:
    """A path; the launch script gives an empty one where there is none."""
    return user_path(text).absolute() if text else None


def obtain(root: Path, given: Path | None, mirror: str, official: bool) -> None:
    """Bring COCO's parts under `root`: linked from the copy `given`, or downloaded.

    What is there already stays. Each part is put in place in one step, when it is whole.

    Args:
        root: the data root.
        given: a user's copy, or None.
        mirror: the address of a folder with the archives; "" for COCO's own.
        official: whether archives must have their published checksums.

    Raises:
        UserError: a part cannot be had or is not whole, the copy is another than the one that is
            linked, or the disk has too little room.
    """
    clear_staging(root)
    # all of the copy before the first step
    found = {archive: _find_copy(root, given, archive) for archive in ARCHIVES} if given else {}
    lacking = [archive for archive in ARCHIVES if not is_there(root, archive)]
    if lacking and not given:
        require_room(root, lacking, official)
    images: Images = {}
    with os_errors_end_in(
        f"see that there is room, and that {root} can be written to; the same command goes on "
        "from here"
    ):
        for archive in ARCHIVES:
            if archive not in lacking:
                print(f"{archive.name} is at {root / archive.path}")
                _discard(root, archive)  # a killed run had no time for it
                continue
            if archive.split and not images:
                images |= {split: read_annotations(root, split, shapes=False) for split in SPLITS}
            if given:
                _link(root, archive, found[archive], images)
            else:
                _download_and_unpack(root, archive, mirror, official, images)


def is_there(root: Path, archive: Archive) -> bool:
    """Whether `root` has a part; a `UserError` if it has a link that leads nowhere."""
    folder = root / archive.path
    if folder.is_symlink() and not folder.exists():
        raise UserError(
            f"{folder} leads to {folder.readlink()}, which does not exist; mend or remove it"
        )
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()
    return folder.exists()


def require_room(root: Path, lacking: Sequence[Archive], official: bool = True) -> None:
    """Say what room downloading and unpacking takes; raise `UserError` if there is less.

    A mirror may have less than the `official` archives, so that there it is only said.
    """
    kept = needed = 0.0
    for archive in lacking:
        held = root / DOWNLOADS / archive.filename
        still = archive.size - held_bytes(held) - held_bytes(part_of(held))
        needed = max(needed, kept + still + archive.unpacked)
        # its archive goes when it is unpacked
        kept += archive.unpacked - (archive.size - still)
    free = shutil.disk_usage(root).free
    text = f"{root} has {free / GB:.1f} GB free; COCO takes {needed / GB:.1f} GB more at most"
    if free < needed and official:
        raise UserError(f"{text}; make room there, choose another DATA_ROOT, or {OTHERWISE}")
    print(f"{text}, of which {max(kept, 0) / GB:.1f} GB stay, and its masks", flush=True)


def _find_copy(root: Path, given: Path, archive: Archive) -> Path:
    if not given.is_dir():
        raise UserError(f"COCO={given}: there is no such folder; name another")
    found = archive.find(given)
    if found is None:
        raise UserError(
            f"COCO={given}: there is no {archive.path.name} here or one folder below; name the "
            "folder of train2014, val2014 and annotations"
        )
    there = root / archive.path
    if is_there(root, archive) and not there.samefile(found):
        raise UserError(
            f"COCO={given} is not what {there} holds already ({there.resolve()}); remove that "
            "first, or leave COCO out"
        )
    return found


def _link(root: Path, archive: Archive, found: Path, images: Images) -> None:
    with staged(root) as staging:
        (staging / archive.path).parent.mkdir(parents=True)
        (staging / archive.path).symlink_to(found)
        _require_whole(staging, archive, images, f"{found} is not whole", "name a whole copy")
        _place(root, staging, archive)
    print(f"{archive.name}: {root / archive.path} links to {found}")


def _download_and_unpack(
    root: Path,
    archive: Archive,
    mirror: str,
    official: bool,
    images: Images,
) -> None:
    """Bring a part; its archive is removed when it is in place, and when it is of no use."""
    file = root / DOWNLOADS / archive.filename
    checksum = Checksum("md5", archive.md5) if official and archive.md5 else None
    download(
        archive.urls(mirror),
        file,
        archive.name,
        checksum,
        None if checksum else _require_zip,
        remedy=f"try again later, or {OTHERWISE}",
    )
    try:
        _unpack_into_place(root, archive, file, images)
    except UserError:
        _discard(root, archive)
        raise
    _discard(root, archive)


def _discard(root: Path, archive: Archive) -> None:
    """Remove an archive and what is left of its download."""
    discard_download(root / DOWNLOADS / archive.filename)
    with suppress(OSError):  # it is not there, is not empty, or is a link of the user's
        (root / DOWNLOADS).rmdir()


def _require_zip(file: Path) -> None:
    """Raise `UserError` unless the file has a zip's list of members, which stands at its end."""
    try:
        zipfile.ZipFile(file).close()
    except (zipfile.BadZipFile, ValueError) as error:
        raise UserError(f"it is no zip archive, or cut off ({error})") from error


def _unpack_into_place(root: Path, archive: Archive, file: Path, images: Images) -> None:
    remedy = f"it is removed; {OTHERWISE}"
    with staged(root) as staging:
        try:
            unpack(file, staging / "archive", archive.name)
        except ArchiveError as error:
            raise UserError(f"{error}; {remedy}") from error
        found = archive.find(staging / "archive")
        if found is None:
            raise UserError(f"{file} does not hold {archive.path.name}; {remedy}")
        target = staging / archive.path
        target.parent.mkdir()
        if archive.split:
            found.rename(target)
        else:
            target.mkdir()
            for split in SPLITS:  # the captions and keypoints beside them go
                (found / split.annotations.name).rename(target / split.annotations.name)
        _require_whole(staging, archive, images, f"{file} does not hold all of it", remedy)
        _place(root, staging, archive)
    print(f"{archive.name}: unpacked to {root / archive.path}")


def _require_whole(
    staging: Path,
    archive: Archive,
    images: Images,
    problem: str,
    remedy: str,
) -> None:
    """Raise `UserError`, of this problem and remedy, unless what is staged is whole.

    Annotations fill `images`.
    """
    if archive.split:
        lacking = lacking_files(staging, archive.split, images[archive.split])
        if lacking:
            number = "a file is" if len(lacking) == 1 else f"{len(lacking)} files are"
            raise UserError(f"{problem}: {number} missing, {lacking[0]} for one; {remedy}")
        return
    for split in SPLITS:
        try:
            images[split] = read_annotations(staging, split, shapes=False)
        except DataError as error:
            raise UserError(
                f"{problem}: {split.annotations.name}, {error.problem}; {remedy}"
            ) from error


def _place(root: Path, staging: Path, archive: Archive) -> None:
    """Move the part that was staged, and is whole, into the data root."""
    (root / TOP).mkdir(exist_ok=True)
    (staging / archive.path).rename(root / archive.path)


if __name__ == "__main__":
    run_command(main)
