"""The report's page as a browser shows it, opened from disk; without Chromium it is skipped."""

import pytest
from report_case import NAMES, eval_seg, make_data

pytestmark = pytest.mark.browser

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 800}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page's address, in a folder whose name a careless address would break at."""
    data = make_data(tmp_path_factory.mktemp("report") / "50% & #1", NAMES)
    (data / "out" / "config.yaml").write_text(f"A_LONG_KEY: {'long ' * 80}\n")
    (data / "out" / "environment.yaml").write_text(f"command: {'x' * 300}\n")
    done = eval_seg(data, "--masks", "out", "--report", "page")
    assert done.returncode == 0, done.stderr
    # as if the folder had been sent to someone
    moved = (data / "page").rename(data / "moved page")
    return (moved / "index.html").as_uri()


@pytest.fixture
def page(browser, address):
    """The page, loaded; whatever the browser complains of or asks for beyond it is an error."""
    page = browser.new_page(viewport=WIDE)
    faults, requests = [], []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(request.url))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address, wait_until="load")
    yield page
    assert faults == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    page.close()


def test_every_image_shows(page):
    sizes = page.eval_on_selector_all(
        "img", "images => images.map(i => [i.complete, i.naturalWidth, i.clientWidth])"
    )
    assert len(sizes) == 4 * (6 + 3 * 3)
    assert all(complete and natural > 0 and shown > 0 for complete, natural, shown in sizes)
    assert page.title().startswith("Segmentation of list.txt · mIoU ")


def column(page, table, number):
    return page.eval_on_selector_all(
        f"#{table} tbody tr", f"rows => rows.map(row => row.cells[{number}].innerText.trim())"
    )


def sorted_heads(page, table):
    return page.eval_on_selector_all(
        f"#{table} th[aria-sort]:not([aria-sort=none])",
        "heads => heads.map(head => [head.innerText, head.ariaSort])",
    )


# class, pixels, then IoU, precision and recall without and with CRF
@pytest.mark.parametrize(
    ("table", "name", "number"),
    [
        ("classes", "pixels", 1),
        ("classes", "IoU, without CRF", 2),
        ("classes", "IoU, with CRF", 3),
        ("classes", "recall, with CRF", 7),
        ("means", "precision", 3),
    ],
)
def test_a_click_on_a_title_sorts(page, table, name, number):
    before = page.locator(f"#{table}").bounding_box()
    button = page.locator(f"#{table}").get_by_role("button", name=name, exact=True)
    original = column(page, table, 0)
    assert [order for _, order in sorted_heads(page, table)] == ["ascending"]

    for order in ("descending", "ascending"):
        button.click()
        values = [float(text.replace(",", "")) for text in column(page, table, number)]
        assert values == sorted(values, reverse=order == "descending")
        assert len(set(values)) > 2
        ((title, state),) = sorted_heads(page, table)
        assert title in name and state == order
    assert page.locator(f"#{table}").bounding_box() == before

    # back to the order of the data set's classes, with the keyboard
    page.locator(f"#{table} th button").first.focus()
    page.keyboard.press("Enter")
    assert column(page, table, 0) == original


def test_matrix_tells_a_cell_under_the_pointer_or_the_keys(page):
    figure = page.locator(".matrix").first
    cell = figure.locator(".cell[data-row='1'][data-column='0']")
    title = cell.locator("title").text_content()
    assert title.startswith("aeroplane predicted as background: ")
    cell.hover()
    readout = figure.locator("output")
    assert readout.inner_text() == title
    figure.locator("svg").focus()
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("aeroplane predicted as aeroplane: ")
    page.keyboard.press("ArrowDown")
    assert readout.inner_text().startswith("bicycle predicted as aeroplane: ")
    # no image of the list has the classes between
    page.keyboard.press("ArrowDown")
    assert readout.inner_text().startswith("tv/monitor predicted as aeroplane: ")


@pytest.fixture(scope="module")
def large_address(tmp_path_factory):
    """The page of a data set with 81 classes."""
    data = make_data(tmp_path_factory.mktemp("large"), NAMES)
    done = eval_seg(data, "--dataset", "coco", "--masks", "out", "--report", "page")
    assert done.returncode == 0, done.stderr
    return (data / "page/index.html").as_uri()


def test_a_matrix_of_81_classes_is_enlarged_where_one_points(browser, large_address):
    page = browser.new_page(viewport=WIDE)
    page.goto(large_address, wait_until="load")
    figure = page.locator(".matrix").first
    drawing, box, button = (figure.locator(what) for what in ("svg", ".scroll", ".zoom"))
    cell = figure.locator(".cell[data-row='20'][data-column='75']")
    # it has the page's width, and all of it is in sight
    assert drawing.bounding_box()["width"] > 1100
    assert box.evaluate("box => box.scrollWidth - box.clientWidth") <= 0
    small = cell.bounding_box()["width"]

    cell.hover()
    title = cell.locator("title").text_content()
    button.focus()
    page.mouse.move(0, 0)  # or another cell would come under it
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert cell.bounding_box()["width"] > 1.8 * small
    inner, outer = cell.bounding_box(), box.bounding_box()
    assert outer["x"] < inner["x"] < outer["x"] + outer["width"]
    assert outer["height"] < 900 and page.evaluate("document.body.scrollWidth") <= 1280
    assert figure.locator("output").inner_text() == title

    page.keyboard.press("Enter")
    assert cell.bounding_box()["width"] == pytest.approx(small, rel=0.1)
    page.close()


def test_the_images_of_81_classes_are_folded(browser, large_address):
    from playwright.sync_api import expect

    page = browser.new_page(viewport=WIDE)
    page.goto(large_address, wait_until="load")
    assert page.locator("details.class").count() == 4
    assert page.locator("details.class[open]").count() == 0
    page.locator("#classes a[href='#class-20']").click()
    expect(page.locator("#class-20[open]")).to_be_in_viewport()
    page.close()


def test_a_class_leads_to_its_images_and_unfolds_them(page):
    from playwright.sync_api import expect

    part = page.locator("#class-20")
    part.locator("summary").click()
    assert not part.evaluate("part => part.open")
    page.locator("#classes").get_by_role("link", name="tv/monitor").click()
    expect(page.locator("#class-20[open]")).to_be_in_viewport()


@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_nothing_is_wider_than_the_screen(page, viewport):
    page.set_viewport_size(viewport)
    page.eval_on_selector_all("details", "parts => parts.forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    # tables and matrices that do not fit scroll by themselves
    inside = page.eval_on_selector_all("section", "s => s.map(x => x.scrollWidth - x.clientWidth)")
    assert max(inside) <= 0


def test_dark_and_light_are_both_readable(browser, address):
    def luminance(colour):
        values = [int(number) / 255 for number in colour[4:-1].split(", ")]
        linear = [v / 12.92 if v <= 0.04 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    found = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(address)
        style = "node => [getComputedStyle(node).color, getComputedStyle(node).backgroundColor]"
        _, ground = map(luminance, page.eval_on_selector("section", style))
        found[scheme] = ground
        for selector in ("section", ".note", "figcaption"):
            ink, _ = page.eval_on_selector(selector, style)
            pair = sorted((luminance(ink), ground))
            # WCAG AA
            assert (pair[1] + 0.05) / (pair[0] + 0.05) > 4.5
        page.close()
    assert found["dark"] < 0.05 < 0.9 < found["light"]
