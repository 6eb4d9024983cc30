"""Pack masks of VOC's test images as VOC's evaluation server takes them."""

from __future__ import annotations

import argparse
import gzip
import io
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np

from core.mask_arguments import add_mask_arguments, can_check_list, mask_list
from datasets.files import decode_whole, read_image
from datasets.info import DatasetInfo
from datasets.lists import ListEntry, read_list, require_files, require_unique_ids
from utils.errors import UserError, os_errors_end_in, reason, run_command
from utils.files import atomic_path, require_writable_file
from utils.processes import available_cpus

# competition 6: training may use other data than VOC's train and val (here ImageNet)
FOLDER = PurePosixPath("results/VOC2012/Segmentation/comp6_test_cls")


def pack(entries: Sequence[ListEntry], masks: Path, info: DatasetInfo, out: Path) -> None:
    """Write a .tgz with the masks of all images of a list, if they are what the server takes.

    The same masks make the same bytes.

    Args:
        entries: the images, which exist; other masks in the folder are left out.
        masks: the folder with ID.png.
        info: gives the palette and the number of classes.
        out: the archive.

    Raises:
        UserError: a mask is missing; a mask is no PNG with the data set's palette, of
            another size than its image, or has a value that is no class; the archive cannot be
            written.
    """
    missing = [entry.id for entry in entries if not (masks / f"{entry.id}.png").is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(entries)} masks are not in {masks}, as {missing[0]}.png; "
            "infer these images first (--skip-existing leaves the others as they are)"
        )
    entries = sorted(entries, key=lambda entry: entry.id)
    with ThreadPoolExecutor(available_cpus()) as pool:
        # memory for compressed files, of which VOC's test set has 10 MB
        contents = list(pool.map(lambda entry: _checked(entry, masks, info), entries))
    with (
        os_errors_end_in("make room there, or choose another --out"),
        atomic_path(out) as temporary,
        temporary.open("wb") as file,
        # neither names nor times, so that nothing but the masks decides the bytes
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for folder in [*reversed(FOLDER.parents[:-1]), FOLDER]:
            archive.addfile(_member(folder, tarfile.DIRTYPE, 0o755))
        for entry, content in zip(entries, contents, strict=True):
            member = _member(FOLDER / f"{entry.id}.png", tarfile.REGTYPE, 0o644)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _checked(entry: ListEntry, masks: Path, info: DatasetInfo) -> bytes:
    """The bytes of an entry's mask, checked to be what the server accepts."""
    path = masks / f"{entry.id}.png"

    def refused(problem: str) -> UserError:
        return UserError(f"{path} {problem}; infer this image again")

    try:
        mask = decode_whole(path)
        content = path.read_bytes()
    except OSError as error:
        raise refused(f"cannot be read ({reason(error)})") from error
    if mask.format != "PNG" or mask.mode != "P":
        raise refused(f"is {mask.format} of mode {mask.mode}; the server takes palette PNGs")
    colours = mask.getpalette()
    if tuple(colours) != info.palette[: len(colours)]:
        raise refused(f"has other colours than the palette of {info.name}")
    values = np.unique(np.array(mask))
    if values[-1] >= info.num_classes:
        raise refused(
            f"has the value {values[-1]}, which is no class; the server wants a class at every "
            "pixel (TEST.MIN_CONFIDENCE 0)"
        )
    image = read_image(entry.image, entry.exif)
    if mask.size != image.size:
        raise refused(
            f"is {mask.height}×{mask.width} (height×width), its image {entry.image} "
            f"{image.height}×{image.width}"
        )
    return content


def _member(path: PurePosixPath, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(str(path))
    member.type, member.mode = kind, mode
    return member


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_mask_arguments(parser, "the test images", out="a .tgz to write")
    parser.add_argument(
        "--check", action="store_true", help="only say what can be known before there are masks"
    )
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    if args.check:
        require_writable_file(args.out, "--out")
        if not can_check_list(args):
            return
    listed = mask_list(args)
    entries = read_list(listed.path, listed.root, listed.info)
    require_unique_ids(entries, listed.path)
    require_files(entries, listed.root, listed.info)
    if args.check:
        return
    pack(entries, args.masks, listed.info, args.out)
    print(f"{len(entries)} masks of {args.masks} packed: {args.out}")


if __name__ == "__main__":
    run_command(main)
