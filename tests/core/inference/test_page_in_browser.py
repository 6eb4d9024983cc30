"""The page of masks as a browser shows it, opened from disk; without Chromium it is skipped."""

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from page_case import (
    CAT,
    CLASSES,
    HEN,
    INFO,
    NAMES,
    make_pages,
    outputs_in,
    write_image,
)

from core.inference.page import write_page

pytestmark = pytest.mark.browser

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 800}
FIRST, TWO, LACKS, EMPTY, EXTRA, PREDICTED = NAMES


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """Of pages: one of few images, in a folder that a careless address would break at, and one of
    more images than are shown at once, without labels."""
    few = tmp_path_factory.mktemp("few") / "50% & #1"
    make_pages(few)
    many = tmp_path_factory.mktemp("many")
    (many / "photographs").mkdir()
    outputs = outputs_in(many)
    entries = [
        write_image(outputs, many / f"photographs/{number:03d}.jpg", {CAT: (1 + number % 20, 0.9)})
        for number in range(150)
    ]
    write_page(outputs, entries, INFO, {"images": "photographs"})
    # as if the folders had been sent to someone
    moved = [folder.rename(folder.with_name(f"moved {folder.name}")) for folder in (few, many)]
    return [(folder / "masks/index.html").as_uri() for folder in moved]


@pytest.fixture
def open_page(browser):
    """Opens an address; whatever the browser complains of or asks for elsewhere is an error."""
    faults, requests, pages = [], [], []

    def open_at(address, **settings):
        page = browser.new_page(viewport=WIDE, **settings)
        pages.append(page)
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("requestfailed", lambda request: faults.append(request.url))
        page.on("request", lambda request: requests.append((address, request.url)))
        page.goto(address, wait_until="load")
        return page

    yield open_at
    assert faults == []
    for address, url in requests:
        assert url == address or url.startswith(address.replace("index.html", "page/"))
    for page in pages:
        page.close()


@pytest.fixture
def page(open_page, addresses):
    return open_page(addresses[0])


def names(page):
    # not their inner texts: those of cards that are far away are empty
    return [text.strip() for text in page.locator("#cards .name").all_text_contents()]


def card(page, name):
    return page.locator("#cards > li").filter(has=page.get_by_text(name, exact=True))


def test_every_thumbnail_shows_the_panel_that_is_chosen(page):
    facts = (
        "images => images.map(i => [i.complete, i.naturalWidth, i.clientWidth / i.clientHeight])"
    )
    sizes = page.eval_on_selector_all("#cards img", facts)
    assert len(sizes) == len(NAMES)
    for complete, width, ratio in sizes:
        # two panels of 20×12, one of which is seen
        assert complete and width == 40 and ratio == pytest.approx(20 / 12, rel=0.02)

    def position():
        style = "image => getComputedStyle(image).objectPosition"
        return page.eval_on_selector("#cards img", style)

    assert position() == "100% 0px"
    page.get_by_label("photograph").check()
    assert position() == "0% 0px"


def test_those_that_disagree_come_first_and_say_why(page):
    assert names(page) == [EXTRA, LACKS, TWO, PREDICTED, FIRST, EMPTY]
    marked = page.locator("#cards .differs").all_inner_texts()
    assert [text.split("\n")[0].strip() for text in marked] == ["hen", "</script><dog>"]
    # the cat has a score, but no mask
    texts = card(page, PREDICTED).locator(".found li").all_inner_texts()
    assert "score 0.80" in texts[0] and texts[0].startswith("</script><dog>")
    assert texts[1].endswith("cat 0.90")
    assert "50.0 %" in card(page, FIRST).inner_text()
    assert card(page, EMPTY).locator(".found li").count() == 1


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("uncertain", [TWO, EXTRA, PREDICTED, FIRST, LACKS, EMPTY]),
        ("certain", [EMPTY, LACKS, FIRST, PREDICTED, EXTRA, TWO]),
        ("large", [FIRST, EXTRA, PREDICTED, TWO, LACKS, EMPTY]),
        ("small", [EMPTY, LACKS, TWO, PREDICTED, EXTRA, FIRST]),
        ("name", sorted(NAMES)),
    ],
)
def test_orders(page, order, expected):
    page.select_option("#order", order)
    assert names(page) == expected


def test_filters(page):
    page.select_option("#order", "uncertain")
    page.select_option("#class", str(CAT))
    assert names(page) == [TWO, FIRST, LACKS]
    # an image counts by the class that is asked for
    page.select_option("#class", str(HEN))
    assert names(page) == [EXTRA, TWO]
    page.select_option("#labels", "disagree")
    assert names(page) == [EXTRA]
    assert page.locator("#count").inner_text() == "1 of 6 images"
    page.select_option("#class", "")
    assert names(page) == [EXTRA, LACKS]
    # an image without labels neither agrees nor disagrees
    page.select_option("#labels", "agree")
    assert names(page) == [TWO, FIRST, EMPTY]
    page.select_option("#class", "none")
    assert names(page) == [EMPTY]
    page.select_option("#class", "")
    page.select_option("#labels", "")
    page.fill("#name", "GRÜ")
    assert names(page) == [EMPTY]
    page.fill("#name", "nothing")
    assert names(page) == []
    assert page.locator("#count").inner_text() == "0 of 6 images"


def test_an_image_whose_label_has_no_mask_is_among_its_class(page):
    page.get_by_role("link", name=CLASSES[2], exact=True).click()
    assert names(page) == [LACKS, PREDICTED]
    assert page.locator("#class").input_value() == "2"


def test_links_lead_to_files(page):
    links = page.eval_on_selector_all("#cards a", "links => links.map(link => link.href)")
    # thumbnail, image, mask, picture
    assert len(links) == 4 * len(NAMES)
    for link in links:
        parts = urlsplit(link)
        assert (parts.query, parts.fragment) == ("", "")
        path = Path(os.fsdecode(unquote_to_bytes(parts.path)))
        assert path.read_bytes()[:2] in (b"\xff\xd8", b"\x89P")


def test_keyboard_alone_is_enough(page):
    def focused():
        return page.evaluate("document.activeElement.id || document.activeElement.tagName")

    page.locator("#images").focus()
    page.keyboard.press("Tab")
    assert focused() == "class"
    page.keyboard.press("c")
    assert names(page) == [LACKS, TWO, FIRST]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert focused() == "order"
    page.keyboard.press("End")
    assert names(page) == sorted([LACKS, TWO, FIRST])
    page.keyboard.press("Tab")
    page.keyboard.type("off")
    page.keyboard.press("Enter")
    assert names(page) == [FIRST]
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert page.get_by_label("photograph").is_checked()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "frame"
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(style) != "none"


def test_everything_has_a_name(page):
    for image in page.locator("#cards img").all():
        assert image.get_attribute("alt")
    for control in page.locator("select, input").all():
        assert control.evaluate("control => control.labels.length") == 1
    assert "cat" in card(page, FIRST).locator("img").get_attribute("alt")


def test_many_images_come_as_they_are_scrolled_to(open_page, addresses):
    page = open_page(addresses[1])
    shown = page.locator("#cards > li")
    assert page.locator("#labels").count() == 0
    assert shown.count() < 150
    assert page.locator("#count").inner_text() == "150 of 150 images"
    page.locator("#count").click()
    while shown.count() < 150:
        page.keyboard.press("End")
        page.wait_for_timeout(20)
    assert page.locator("#more").is_hidden()
    assert sorted(names(page)) == [f"{number:03d}.jpg" for number in range(150)]


@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_nothing_is_wider_than_the_screen(page, viewport):
    page.set_viewport_size(viewport)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_a_title_sorts_the_table(page):
    page.get_by_role("button", name="share").click()
    first = page.locator("#classes tbody tr").first.inner_text()
    assert first.startswith("background")
    page.get_by_role("button", name="missing").click()
    assert page.locator("#classes tbody th").first.inner_text() == CLASSES[2]
