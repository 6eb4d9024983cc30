import numpy as np
import pytest

from utils.drawing import blend, colorize, enlarge, legend, picture, side_by_side

PALETTE = [(7 * index + channel) % 256 for index in range(256) for channel in range(3)]
CLASSES = ("background", "aeroplane", "tv/monitor")


def panel(height, width, value):
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_colorize_looks_every_index_up():
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    colours = colorize(mask, PALETTE)
    assert colours.shape == (8, 32, 3) and colours.dtype == np.uint8
    for index in range(256):
        expected = PALETTE[3 * index : 3 * index + 3]
        assert colours[index // 32, index % 32].tolist() == expected


def test_blend_is_seven_to_three_and_rounded():
    image = np.array([[[0, 10, 255], [255, 255, 3]]], dtype=np.uint8)
    colours = np.array([[[128, 0, 255], [0, 224, 1]]], dtype=np.uint8)
    # 89.6, 3, 255; 76.5 (half way, floats decide), 233.3, 1.6
    mixed = blend(image, colours)
    assert mixed.dtype == np.uint8
    assert mixed[0, 0].tolist() == [90, 3, 255]
    assert mixed[0, 1, 0] in (76, 77)
    assert mixed[0, 1, 1:].tolist() == [233, 2]
    assert np.array_equal(blend(image, colours, alpha=1), colours)
    assert np.array_equal(blend(image, colours, alpha=0), image)
    with pytest.raises(ValueError):
        blend(image, colours[:, :1])


def test_side_by_side_keeps_the_order():
    joined = side_by_side([panel(2, 3, 1), panel(2, 1, 2), panel(2, 2, 3)])
    assert joined[0, :, 0].tolist() == [1, 1, 1, 2, 3, 3]
    with pytest.raises(ValueError):
        side_by_side([panel(2, 2, 1), panel(3, 2, 1)])


def test_enlarge_nearest_repeats_and_smooth_interpolates():
    image = np.array([[[0] * 3, [200] * 3]], dtype=np.uint8)
    assert enlarge(image, 3, smooth=False)[:, :, 0].tolist() == [[0, 0, 0, 200, 200, 200]] * 3
    smooth = enlarge(image, 3, smooth=True)
    assert smooth.shape == (3, 6, 3)
    assert len(np.unique(smooth)) > 2


def test_picture_centres_panels_in_their_cells():
    rows = [[panel(10, 20, 1), panel(10, 30, 2)], [panel(20, 10, 3), panel(16, 30, 4)]]
    drawn = picture(rows)
    # columns are 20 and 30 wide, rows 10 and 20 high, margins of 6 between and around
    assert drawn.shape == (6 + 10 + 6 + 20 + 6, 6 + 20 + 6 + 30 + 6, 3)
    expected = np.full(drawn.shape, 255, dtype=np.uint8)
    expected[6:16, 6:26] = 1
    expected[6:16, 32:62] = 2
    expected[22:42, 11:21] = 3
    expected[24:40, 32:62] = 4
    assert np.array_equal(drawn, expected)


def test_picture_titles_stand_above_their_columns():
    rows = [[panel(10, 60, 100), panel(10, 60, 100)]]
    plain, titled = picture(rows), picture(rows, ["image", ""])
    extra = len(titled) - len(plain)
    assert np.array_equal(titled[extra:], plain)
    ink = (titled[:extra] < 128).any(axis=2)
    assert ink[:, 6:66].any() and not ink[:, 66:].any()


def test_picture_widens_a_column_for_its_title():
    drawn = picture([[panel(4, 4, 1)]], ["a title wider than this panel"])
    ink = (drawn < 128).any(axis=2)
    assert drawn.shape[1] > 100 and ink[:20].any() and not ink[:20, :3].any()


def test_picture_refuses_what_does_not_fit_together():
    with pytest.raises(ValueError):
        picture([[panel(2, 2, 1)], [panel(2, 2, 1), panel(2, 2, 1)]])
    with pytest.raises(ValueError):
        picture([[panel(2, 2, 1)]], ["one", "two"])


def test_legend_shows_the_colours_of_the_listed_classes_only():
    drawn = legend(CLASSES, PALETTE, [2, 0], width=400)
    assert drawn.shape[1] == 400 and drawn.dtype == np.uint8
    colours = {tuple(colour) for colour in drawn.reshape(-1, 3).tolist()}
    assert {tuple(PALETTE[0:3]), tuple(PALETTE[6:9])} <= colours
    assert tuple(PALETTE[3:6]) not in colours


def test_legend_wraps_at_its_width():
    wide = legend(CLASSES, PALETTE, [0, 1, 2], width=600)
    narrow = legend(CLASSES, PALETTE, [0, 1, 2], width=110)
    assert narrow.shape[1] == 110 and len(narrow) > 2 * len(wide)
