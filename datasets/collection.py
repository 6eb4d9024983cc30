"""The collections of files under a data root as they are shipped: what makes one whole, what is
linked of a copy, and how a copy is found on a disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets.layout import SBD, VOC, VOC_TEST
from datasets.sources import SBD_SOURCE, VOC_SOURCE, Source
from utils.errors import UserError

# how far below and above a path a copy is looked for
SEARCH_DEPTH = 3


@dataclass(frozen=True)
class Collection:
    """Images with what is shipped beside them.

    Attributes:
        name: what users call it.
        variable: of `launch/get_data.sh`; names a copy of it.
        path: its folder, relative to the data root, as all paths here.
        id_files: the ids of its images, one a line.
        per_image: the files that each id stands for.
        links: what of a copy is linked: all that is read of it, and nothing that is written to.
        source: where it can be downloaded, or None.
    """

    name: str
    variable: str
    path: Path
    id_files: tuple[Path, ...]
    per_image: tuple[Callable[[str], Path], ...]
    links: tuple[Path, ...]
    source: Source | None = None

    @property
    def top(self) -> Path:
        """The folder in the data root that is put there in one step."""
        return Path(self.path.parts[0])

    def require_whole(self, root: Path, remedy: str) -> None:
        """Raise `UserError`, which ends in `remedy`, unless all its files are under `root`."""
        missing = [path for path in self._files(root) if not (root / path).is_file()]
        if missing:
            raise UserError(
                f"{self.name} is not whole: {len(missing)} files are missing, {missing[0]} for "
                f"one; {remedy}"
            )

    def _files(self, root: Path) -> Iterator[Path]:
        for id_file in self.id_files:
            yield id_file
            if (root / id_file).is_file():
                for image_id in (root / id_file).read_text(errors="replace").split():
                    yield from (path(image_id) for path in self.per_image)

    def locate(self, given: Path) -> Path:
        """The folder of a copy that corresponds to `path`, at, below or above the folder `given`.

        Raises:
            UserError: there is none, or more than one as near.
        """
        level = [given]
        for _ in range(SEARCH_DEPTH + 1):
            if found := self._nearest(level):
                return found
            level = [folder for parent in level for folder in _folders_in(parent)]
        for parent in list(given.parents)[:SEARCH_DEPTH]:
            if self._is_at(parent):
                return parent
        marks = ", ".join(str(mark) for mark in self._marks())
        raise UserError(
            f"{self.variable}={given}: there is no {self.name} here: looked for a folder that has "
            f"{marks}"
        )

    def _nearest(self, folders: list[Path]) -> Path | None:
        found = [folder for folder in folders if self._is_at(folder)]
        if len(found) > 1:
            # as VOC2007 beside VOC2012
            found = [folder for folder in found if folder.name == self.path.name] or found
        if len(found) > 1:
            raise UserError(
                f"{self.variable}: there are several that look like {self.name}: "
                f"{', '.join(map(str, found[:3]))}; name the one to take"
            )
        return found[0] if found else None

    def _is_at(self, folder: Path) -> bool:
        return all((folder / mark).exists() for mark in self._marks())

    def _marks(self) -> list[Path]:
        """What tells the collection's folder from others, relative to it."""
        folders = [path("any").parent for path in self.per_image]
        return [path.relative_to(self.path) for path in (*self.id_files, *folders)]


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except PermissionError:
        return []


VOC_TRAINVAL = Collection(
    name=VOC_SOURCE.name,
    variable="VOC",
    path=VOC.path,
    id_files=(VOC.id_file("train"), VOC.id_file("val")),
    per_image=(VOC.image, VOC.mask),
    links=(VOC.path,),
    source=VOC_SOURCE,
)
SBD_TRAINVAL = Collection(
    name=SBD_SOURCE.name,
    variable="SBD",
    path=SBD.path,
    id_files=(SBD.id_file("train"), SBD.id_file("val")),
    per_image=(SBD.image, SBD.mat),
    # file by file, for the PNG masks go beside them and no copy is written to
    links=(*(SBD.path / name for name in ("img", "cls")), SBD.id_file("train"), SBD.id_file("val")),
    source=SBD_SOURCE,
)
VOC_TEST_IMAGES = Collection(
    name="the test set of VOC 2012",
    variable="VOC_TEST",
    path=VOC_TEST.path,
    id_files=(VOC_TEST.id_file("test"),),
    per_image=(VOC_TEST.image,),
    links=(VOC_TEST.path,),
)
