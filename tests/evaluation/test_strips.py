"""Contact sheets, read back pixel by pixel."""

import matplotlib
import numpy as np
import pytest

from sfm_jax.evaluation import strips as module
from sfm_jax.evaluation.pictures import BACKGROUND
from sfm_jax.evaluation.report import Report
from sfm_jax.evaluation.strips import FOUND, GAP, HEAD, MARGIN, TRUTH, strips

SIDE = 64
PAPER = np.round(255 * np.array(BACKGROUND))


def _flat(*levels):
    return np.stack([np.full((16, 16, 3), level, np.float32) for level in levels])


def _tile(sheet, row, column):
    top, left = HEAD + row * (SIDE + GAP), MARGIN + column * (SIDE + GAP)
    return sheet[top:top + SIDE, left:left + SIDE].astype(int)


def _centre(tile, colour, tolerance=12):
    """Middle (x, y) in pixels of what is drawn in `colour`."""
    rows, columns = np.nonzero((np.abs(tile - colour) < tolerance).all(-1))
    return columns.mean() + 0.5, rows.mean() + 0.5


def test_a_row_for_each_sample_and_a_column_for_each_kind():
    sheet = strips({"photo": _flat(0.2, 0.4, 0.6), "render": np.uint8(255 * _flat(0.3, 0.5, 0.7))}, side=SIDE)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (HEAD + 3 * SIDE + 2 * GAP + MARGIN, 2 * SIDE + GAP + 2 * MARGIN, 3)
    for row in range(3):
        for column in range(2):
            middle = _tile(sheet, row, column)[SIDE // 2, SIDE // 2]
            np.testing.assert_allclose(middle, 255 * (0.2 + 0.2 * row + 0.1 * column), atol=1)
    assert np.any(sheet[:HEAD, :SIDE] != PAPER) and np.any(sheet[:HEAD, -SIDE - MARGIN:] != PAPER)  # headings
    np.testing.assert_array_equal(_tile(sheet, 0, 0)[0, 0], PAPER)  # rounded corners


def test_errors_take_the_colours_of_the_scale_that_stands_beneath():
    error = np.stack([np.full((16, 16), level) for level in (0.0, 0.2, 0.9)])
    sheet = strips({"photo": _flat(0, 0, 0), "error": error}, highest=0.4, side=SIDE)
    colours = 255 * np.array([matplotlib.colormaps[module.COLORMAP](share)[:3] for share in (0, 0.5, 1.0)])
    for row in range(3):
        np.testing.assert_allclose(_tile(sheet, row, 1)[SIDE // 2, SIDE // 2], colours[row], atol=2)
    bar = sheet[HEAD + 3 * SIDE + 2 * GAP + 10 + 4, MARGIN + SIDE + GAP:].astype(int)
    np.testing.assert_allclose(bar[[3, SIDE // 2, SIDE - 4]], 255 * np.array(
        [matplotlib.colormaps[module.COLORMAP]((i + 0.5) / SIDE)[:3] for i in (3, SIDE // 2, SIDE - 4)]), atol=6)


def test_errors_that_are_not_known_are_left_blank():
    error = np.full((1, 16, 16), 0.3)
    error[0, :, 8:] = np.nan
    tile = _tile(strips({"error": error}, side=SIDE), 0, 0)
    np.testing.assert_array_equal(tile[SIDE // 2, -8], PAPER)
    colour = matplotlib.colormaps[module.COLORMAP](0.6)[:3]
    np.testing.assert_allclose(tile[SIDE // 2, 8], 255 * np.array(colour), atol=2)


def test_points_stand_where_they_are_in_their_own_column():
    points, other = np.array([[[4.0, 12.0]]]), np.array([[[11.5, 3.25]]])
    sheet = strips({"photo": _flat(0.4), "overlay": _flat(0.4)}, {"overlay": other}, {"photo": points}, side=SIDE)
    np.testing.assert_allclose(_centre(_tile(sheet, 0, 0), TRUTH), points[0, 0] * SIDE / 16, atol=0.6)
    np.testing.assert_allclose(_centre(_tile(sheet, 0, 1), FOUND), other[0, 0] * SIDE / 16, atol=0.6)


def test_a_face_of_68_points_is_joined_by_lines_and_other_numbers_are_not():
    line = np.zeros((1, 68, 2)) + [8, 8]
    line[0, :17] = np.stack([np.linspace(2, 14, 17), np.full(17, 2.0)], -1)
    line[0, :17:16, 1] = 2
    line[0, 1:16] = [8, 2]
    joined, alone = (_tile(strips({"photo": _flat(0.2)}, {"photo": points}, side=SIDE), 0, 0)
                     for points in (line, line[:, :17]))
    between = int(2 * SIDE / 16), int(5 * SIDE / 16)  # row 2, between the points at columns 2 and 8
    assert joined[between][1] > alone[between][1] + 40


def test_wide_pictures_keep_their_proportions():
    sheet = strips({"photo": np.full((1, 10, 20, 3), 0.5)}, side=SIDE)
    assert sheet.shape == (HEAD + SIDE // 2 + MARGIN, SIDE + 2 * MARGIN, 3)


def test_rows_are_labelled_on_the_left():
    plain, labelled = (strips({"photo": _flat(0.2, 0.4)}, rows=rows, side=SIDE) for rows in ((), ("first", "second")))
    assert labelled.shape[1] > plain.shape[1] + 30
    np.testing.assert_array_equal(labelled[:, -SIDE - MARGIN:], plain[:, MARGIN:])


@pytest.mark.parametrize(("columns", "points", "message"), [
    ({"a": _flat(0.1), "b": _flat(0.1, 0.2)}, {}, "expected images of one number"),
    ({"a": _flat(0.1)[:0]}, {}, "not 0"),
    ({"a": _flat(0.1)}, {"b": np.zeros((1, 68, 2))}, "found 'b' .*expected .* for one of a"),
    ({"a": _flat(0.1)}, {"a": np.zeros((2, 68, 2))}, r"found 'a' \(2, 68, 2\)")])
def test_what_does_not_fit_is_refused(columns, points, message):
    with pytest.raises(ValueError, match=message):
        strips(columns, points)


def test_a_report_takes_it(tmp_path):
    report = Report("strips")
    report.figure(strips({"photo": _flat(0.4)}, side=SIDE), "A photo.", wide=True)
    assert "data:image/" in report.write(tmp_path).read_text()
