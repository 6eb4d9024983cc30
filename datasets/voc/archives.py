"""VOC 2012, SBD and VOC's test set as shipped: archives, and where and when a copy is whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets.voc.layout import SBD, VOC, VOC_TEST, parse_ids
from utils.errors import UserError


@dataclass(frozen=True)
class Source:
    """An archive on the web.

    Attributes:
        name: what users call the data set in it.
        filename: the archive's, whatever address it comes from.
        urls: its addresses; the second is asked where the first does not have it.
        md5: the checksum of the whole file, in hexadecimal digits.
    """

    name: str
    filename: str
    urls: tuple[str, ...]
    md5: str


SEARCH_DEPTH = 3
"""How many levels below and above a given folder a copy is looked for."""


@dataclass(frozen=True)
class ShippedDataset:
    """Images with what is shipped beside them, in one folder.

    Attributes:
        name: what users call it.
        variable: of `launch/get_data.sh`; names a copy of it.
        path: its folder, relative to the data root, as all paths here.
        id_lists: the ids of its images, one a line.
        per_image: the files that each id stands for.
        links: what of a copy is linked: all that is read of it, and nothing that is written to.
        source: where it can be downloaded, or None.
    """

    name: str
    variable: str
    path: Path
    id_lists: tuple[Path, ...]
    per_image: tuple[Callable[[str], Path], ...]
    links: tuple[Path, ...]
    source: Source | None = None

    @property
    def top(self) -> Path:
        """The folder in the data root that is put there in one step."""
        return Path(self.path.parts[0])

    def require_whole(self, folder: Path, remedy: str) -> None:
        """Raise `UserError`, which ends in `remedy`, unless all its files are in `folder`.

        `folder` is what corresponds to `path`, under a data root or in a copy.
        """
        ids: set[str] = set()
        for id_list in map(self._inside, self.id_lists):
            try:
                ids |= parse_ids(folder / id_list)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise self._not_whole(f"{id_list} is missing", remedy) from error
            except ValueError as error:
                raise self._not_whole(f"{id_list}: {error}", remedy) from error
        files = (
            self._inside(path(image_id)) for image_id in sorted(ids) for path in self.per_image
        )
        missing = [path for path in files if not (folder / path).is_file()]
        if missing:
            number = "a file is" if len(missing) == 1 else f"{len(missing)} files are"
            raise self._not_whole(f"{number} missing, {missing[0]} for one", remedy)

    def _not_whole(self, problem: str, remedy: str) -> UserError:
        return UserError(f"{self.name} is not whole: {problem}; {remedy}")

    def locate(self, given: Path, own: Path) -> Path:
        """The folder of a copy that corresponds to `path`, at, below or above the folder `given`.

        Args:
            given: where the user says the copy is.
            own: a folder that counts only where no other is found: the data root's own.

        Raises:
            UserError: there is none, or more than one as near.
        """
        of_other_years: list[Path] = []
        for folders in _ever_farther(given):
            found = [folder for folder in folders if self._is_at(folder)]
            if right := [folder for folder in found if not self._is_of_other_year(folder)]:
                return self._choose(right, own)
            of_other_years += found
        if of_other_years:
            raise UserError(
                f"{self.variable}={given} leads to {of_other_years[0]}, which is not "
                f"{self.name}; name a copy of that"
            )
        marks = ", ".join(str(mark) for mark in self._marks())
        raise UserError(
            f"{self.variable}={given}: there is no {self.name} here: looked for a folder that may "
            f"be read and has {marks}; name one, or its archive"
        )

    def _choose(self, found: list[Path], own: Path) -> Path:
        # what only links to another of them is the same copy
        copies = list({folder.resolve(): folder for folder in reversed(found)}.values())
        others = [folder for folder in copies if not folder.resolve().is_relative_to(own)]
        copies = others or copies
        copies = [folder for folder in copies if folder.name == self.path.name] or copies
        if len(copies) > 1:
            raise UserError(
                f"{self.variable}: there are several that look like {self.name}: "
                f"{', '.join(map(str, sorted(copies)[:3]))}; name the one to take"
            )
        return copies[0]

    def _is_at(self, folder: Path) -> bool:
        try:
            return all((folder / mark).exists() for mark in self._marks())
        except PermissionError:
            return False

    def _is_of_other_year(self, folder: Path) -> bool:
        # the years of VOC look the same
        return bool(re.fullmatch(r"VOC20\d\d", folder.name)) and folder.name != self.path.name

    def _marks(self) -> list[Path]:
        """What tells the data set's folder from others, relative to it."""
        folders = [path("any").parent for path in self.per_image]
        return [self._inside(path) for path in (*self.id_lists, *folders)]

    def _inside(self, path: Path) -> Path:
        return path.relative_to(self.path)


def _ever_farther(given: Path) -> Iterator[list[Path]]:
    """The folder `given`, those in it, those in these and so on; then one above the other."""
    level = [given]
    for _ in range(SEARCH_DEPTH + 1):
        yield level
        level = [folder for parent in level for folder in _folders_in(parent)]
    for parent in list(given.parents)[:SEARCH_DEPTH]:
        yield [parent]


def _folders_in(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except PermissionError:
        return []  # nothing that is to be found


VOC_SOURCE = Source(
    name="VOC 2012",
    filename="VOCtrainval_11-May-2012.tar",
    urls=(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    ),
    md5="6cd6e144f989b92b3379bac3b3de84fd",
)
SBD_SOURCE = Source(
    name="SBD",
    filename="benchmark.tgz",
    urls=(
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/"
        "semantic_contours/benchmark.tgz",
    ),
    md5="82b4d87ceb2ed10f6038a1cba92111cb",
)

VOC_TRAINVAL = ShippedDataset(
    name=VOC_SOURCE.name,
    variable="VOC",
    path=VOC.path,
    id_lists=(VOC.id_list("train"), VOC.id_list("val")),
    per_image=(VOC.image, VOC.mask),
    links=(VOC.path,),
    source=VOC_SOURCE,
)
SBD_TRAINVAL = ShippedDataset(
    name=SBD_SOURCE.name,
    variable="SBD",
    path=SBD.path,
    id_lists=(SBD.id_list("train"), SBD.id_list("val")),
    per_image=(SBD.image, SBD.mat),
    # file by file, for the PNG masks go beside them and no copy is written to
    links=(*(SBD.path / name for name in ("img", "cls")), SBD.id_list("train"), SBD.id_list("val")),
    source=SBD_SOURCE,
)
VOC_TEST_IMAGES = ShippedDataset(
    name="the test set of VOC 2012",
    variable="VOC_TEST",
    path=VOC_TEST.path,
    id_lists=(VOC_TEST.id_list("test"),),
    per_image=(VOC_TEST.image,),
    links=(VOC_TEST.path,),
)
