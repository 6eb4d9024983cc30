"""The report's page: one file with all the numbers, and pictures of the right images."""

import json
import re
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image
from report_case import NAMES, eval_seg, make_data, slow_counts, table, write

from core.evaluation.evaluate import Evaluation, ImageAgreement, evaluate, masks_from
from core.evaluation.html import HERE, page, render
from core.evaluation.html.examples import MAX_SIDE, best_and_worst, draw_example, thumbnail
from core.evaluation.report import Report, RunInfo
from core.evaluation.sources import mask_sources
from datasets.lists import read_list
from datasets.voc import PASCAL_VOC


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data root", NAMES)


class Elements(HTMLParser):
    """The elements of a page and its text, without styles and scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in ("meta", "img"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += text + "\n"


def read_page(data, folder="page"):
    return Elements((data / folder / "index.html").read_text())


def test_page_is_one_file_that_holds_all(data):
    (data / "out" / "environment.yaml").write_text("commit: 0a1b2c\nsnapshot: s.pth\n")
    (data / "out" / "config.yaml").write_text("NET:\n  MODEL: ae\n")
    (data / "out" / "diff.patch").write_text("-a\n+b\n")
    done = eval_seg(data, "--masks", "out", "--report", "page")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("report: page/index.html\n")
    assert [path.name for path in (data / "page").iterdir()] == ["index.html"]

    page = read_page(data)
    for masks in ("out", "out/crf"):
        for number in re.findall(r"\d+\.\d\d", table(data, masks)):
            assert number in page.text
    for text in ("0a1b2c", "s.pth", "MODEL: ae", "diff.patch holds", "9 of 9 evaluated"):
        assert text in page.text
    links = [value for _, found in page.elements for key, value in found.items() if key == "href"]
    assert links and all(link.startswith("#class-") for link in links)
    sources = [found["src"] for _, found in page.elements if "src" in found]
    # background: three best and three worst; three classes of three images: two and one each
    assert len(sources) == 4 * (6 + 3 * 3)
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)


def test_matrix_has_the_share_of_each_pair(data):
    eval_seg(data, "--masks", "out/crf", "--report", "page")
    page = read_page(data)
    counts = slow_counts(data, "out/crf")
    names = [*PASCAL_VOC.classes, "no class"]
    for row in (0, 1, 2, 20):
        for column in range(22):
            share = 100 * counts[row, column] / counts[row].sum()
            text = f"{names[row]} predicted as {names[column]}: {share:.2f} %"
            assert f"{text} ({counts[row, column]} pixels)" in page.text
    assert "sofa predicted as" not in page.text


def test_without_crf_the_page_and_the_command_say_so(data):
    (data / "out" / "crf").rename(data / "elsewhere")
    done = eval_seg(data, "--masks", "out", "--report", "page")
    assert done.returncode == 0
    assert "with CRF: not evaluated: there is no folder out/crf" in done.stdout
    page = read_page(data)
    assert "there is no folder out/crf" in page.text
    assert "There is no environment.yaml in out" in page.text
    assert "There is no config.yaml in out" in page.text


def test_left_out_images_are_listed(data):
    (data / "out" / "crf" / f"{NAMES[3]}.png").unlink()
    done = eval_seg(data, "--masks", "out", "--report", "page", "--json", "n.json")
    assert done.returncode == 2
    assert not (data / "page" / "index.html").exists() and not (data / "n.json").exists()

    arguments = ["--masks", "out", "--allow-missing", "--report", "page", "--json", "n.json"]
    assert eval_seg(data, *arguments).returncode == 0
    page = read_page(data)
    assert "1 of 9 images have no usable mask with CRF and are left out" in page.text
    assert f"mask out/crf/{NAMES[3]}.png does not exist" in page.text
    assert "their numbers do not compare" in page.text
    assert "9 and 8 of 9 evaluated" in page.text
    # the order by which a click finds its column
    labels = [found["aria-label"] for name, found in page.elements if name == "button"]
    kinds = ("pixels", "IoU", "precision", "recall")
    both = ("without CRF", "with CRF")
    assert labels[5:] == ["class", *(f"{kind}, {masks}" for kind in kinds for masks in both)]
    _, refined = json.loads((data / "n.json").read_text())["evaluations"]
    assert refined["images"] == {"listed": 9, "evaluated": 8}
    (mask,) = refined["left_out"]
    assert mask["kind"] == "missing" and NAMES[3] in mask["message"]


def test_names_and_paths_are_text_in_the_page(tmp_path):
    evil = "<img_src=x_onerror=alert(1)>&\"'"
    data = make_data(tmp_path / "data", [evil, "b", "c"])
    (data / "out").rename(data / "<b>masks")
    (data / "<b>masks" / "environment.yaml").write_text("command: <script>alert(2)</script>\n")
    (data / "<b>masks" / "config.yaml").write_text("</pre><i>\n")
    done = eval_seg(data, "--masks", "<b>masks", "--report", "page")
    assert done.returncode == 0, done.stderr
    page = read_page(data)
    assert "i" not in [name for name, _ in page.elements]
    assert [name for name, _ in page.elements].count("script") == 1
    assert all("onerror" not in found for _, found in page.elements)
    for text in (evil, "<b>masks", "<script>alert(2)</script>", "</pre><i>"):
        assert text in page.text


def test_a_failing_report_leaves_the_earlier_one(data):
    assert eval_seg(data, "--masks", "out", "--report", "page").returncode == 0
    before = (data / "page" / "index.html").read_bytes()
    for damage in (lambda path: path.unlink(), lambda path: Image.new("RGB", (3, 3)).save(path)):
        damage(data / "img" / f"{NAMES[1]}.jpg")
        done = eval_seg(data, "--masks", "out", "--report", "page")
        assert done.returncode == 2
        assert re.fullmatch(f"error: .*img/{NAMES[1]}.jpg.*\n", done.stderr)
        assert (data / "page" / "index.html").read_bytes() == before
        assert len(list((data / "page").iterdir())) == 1


def test_only_images_that_are_shown_are_opened(data):
    # with one class everywhere, three of the nine are neither among the best nor the worst
    for number, name in enumerate(NAMES):
        write(data / "gt" / f"{name}.png", np.zeros((6, 8)))
        mask = np.zeros((6, 8))
        mask[0, :number] = 2
        write(data / "out" / f"{name}.png", mask)
    for name in NAMES[3:6]:
        (data / "img" / f"{name}.jpg").unlink()
    done = eval_seg(data, "--masks", "out", "--report", "page")
    assert (done.returncode, done.stderr) == (0, "")
    order = re.findall(r"2007_\d+", read_page(data).text)
    assert order == [NAMES[number] for number in (0, 1, 2, 8, 7, 6)]


@pytest.mark.parametrize(
    ("images", "best", "worst"),
    [(1, "a", ""), (2, "a", "b"), (3, "ab", "c"), (5, "abc", "ed"), (7, "abc", "gfe")],
)
def test_no_image_is_among_best_and_worst(images, best, worst):
    # z, which lacks the class, and scores that fall from a to g
    listed = [ImageAgreement("z", {0: 5})]
    listed += [ImageAgreement("abcdefg"[i], {4: -i}) for i in reversed(range(images))]
    evaluation = Evaluation(np.zeros((21, 22), dtype=np.int64), listed, [])
    found = best_and_worst(evaluation, 4, 3)
    assert ["".join(image.id for image in part) for part in found] == [best, worst]


def test_pictures_are_small_and_keep_their_shape(data):
    noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)
    uri, size = thumbnail(noise)
    assert size == (MAX_SIDE, MAX_SIDE * 375 // 500)
    # noise is the worst there is; photographs take about 10 kB
    assert len(uri) < 60_000
    assert thumbnail(noise[:30, :40])[1] == (40, 30)

    entry = read_list(data / "list.txt", data, PASCAL_VOC)[0]
    predicts = [masks_from(data / folder, PASCAL_VOC) for folder in ("out", "gt")]
    example = draw_example(entry, predicts, PASCAL_VOC)
    assert example.size == (8, 6)
    _, truth = example.predictions
    assert truth.picture == example.ground_truth != example.image
    assert truth.iou[0] == truth.iou[1] == 1
    (data / "out" / f"{NAMES[0]}.png").unlink()
    lacking = draw_example(entry, predicts, PASCAL_VOC)
    assert lacking.predictions[0] is None and lacking.predictions[1].picture == truth.picture


def make_report(data, info=PASCAL_VOC, filelist="list.txt"):
    entries = read_list(data / "list.txt", data, PASCAL_VOC)
    results = [
        (source, evaluate(entries, source.predict, info))
        for source in mask_sources(data / "out", entries, info)
    ]
    run = RunInfo(Path("out"), {"command": filelist}, filelist, changed=True)
    return Report(info, filelist, entries, results, run, datetime.now(timezone.utc))


def test_long_names_fit_the_matrix(data):
    long, longest = "a class of some thirty letters", "x" * 70
    info = replace(PASCAL_VOC, classes=(long, longest, *PASCAL_VOC.classes[2:]))
    text = page.build_page(make_report(data, info))
    left = [float(x) for x in re.findall(r'<text class="row.*?" x="(\d+)"', text)]
    assert min(left) >= 7 * len(long)
    cut, whole = f"{'x' * 31}…", f"<title>{longest}</title>"
    # the row's and the column's, in both matrices
    assert len(re.findall(f"{whole}\\s*{cut}</text>", text)) == 4
    usual = page.build_page(make_report(data))
    assert "…</text>" not in usual and '<text class="row" x="96"' in usual


def test_any_name_is_text_in_the_page(data):
    awkward = ["<i>a</i>", "a & b", "\"a' b", "a #1 50%", "{{ 7 * 7 }}{% raw %}{# b #}"]
    info = replace(PASCAL_VOC, classes=(*awkward, *PASCAL_VOC.classes[5:]))
    path = page.write_page(data / "page", make_report(data, info, "l\udcff<i>.txt"))
    # a byte that is no UTF-8 shows as such, the page itself is UTF-8
    text = path.read_bytes().decode("utf-8")
    found = Elements(text)
    assert "i" not in [name for name, _ in found.elements]
    for name in awkward:
        assert found.text.count(name) >= 5
    assert found.text.count("l\\udcff<i>.txt") == 4
    # styles and scripts arrive as they are
    for name in ("style.css", "script.js"):
        assert (HERE / name).read_text() in text


def test_a_value_that_is_not_given_is_an_error(data, monkeypatch):
    given = {}
    monkeypatch.setattr(page, "render", lambda template, **values: given.update(values))
    page.build_page(make_report(data))
    assert "<html" in render("report.html.j2", **given)
    for name in ("filelist", "classes", "examples", "run"):
        fewer = {key: value for key, value in given.items() if key != name}
        with pytest.raises(UndefinedError, match=name):
            render("report.html.j2", **fewer)
