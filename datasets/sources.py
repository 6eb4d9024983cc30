"""Where the real data sets are downloaded from."""

from __future__ import annotations

from dataclasses import dataclass


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
