"""Figures, read back from their artists."""

import io

import matplotlib
import numpy as np
import pytest
import trimesh

from sfm_jax.evaluation import figures, recognition


def _line(figure, label):
    return next(line for line in figure.axes[0].lines if line.get_label() == label)


def test_loss_curves_keep_means_where_they_thin_out():
    history = [{"step": i, "a": 5.0 + (i % 2), "rate": 1.0} if i % 4 else {"step": i, "a": 5.0 + (i % 2)}
               for i in range(4000)]
    figure = figures.loss_curves(history, ["a", "rate"])
    x, y = _line(figure, "a").get_data()
    assert len(x) == figures.POINTS_PER_CURVE
    np.testing.assert_allclose(y, 5.5)
    np.testing.assert_allclose(np.mean(x), np.mean(np.arange(4000)))
    np.testing.assert_allclose(_line(figure, "rate").get_ydata(), 1)
    assert figure.axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(("values", "scale"), [([100, 1], "log"), ([100, 0], "linear"), ([2, 1], "linear")])
def test_loss_axis_is_logarithmic_for_wide_positive_values(values, scale):
    figure = figures.loss_curves([{"step": i, "loss": v} for i, v in enumerate(values)])
    assert figure.axes[0].get_yscale() == scale


def test_an_unknown_loss_is_refused_by_name():
    with pytest.raises(ValueError, match="history: 'typo' is in none of its 1 entries"):
        figures.loss_curves([{"step": 0, "loss": 1.0}], ["typo"])


def test_a_matrix_shows_its_numbers_in_their_places():
    values = np.array([[1.0, 0.25, np.inf], [0.5, 1.0, 2.0]])
    axes = figures.matrix(values, ["a", "b"], ["x", "y", "z"], "varied", "moves").axes[0]
    assert [[text.get_text() for text in axes.texts[row:row + 3]] for row in (0, 3)] == [
        ["1.00", "0.25", "inf"], ["0.50", "1.00", "2.00"]]
    assert [text.get_position() for text in axes.texts[:3]] == [(0, 0), (1, 0), (2, 0)]
    np.testing.assert_array_equal(np.ma.getdata(axes.images[0].get_array()), values)
    assert axes.images[0].get_clim() == (0, 2) and axes.get_ylabel() == "varied"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]


def test_roc_curve_passes_through_tar_at_far():
    rng = np.random.default_rng(0)
    same = np.arange(5000) < 1000
    scores = rng.normal(size=5000) + 2 * same
    line = _line(figures.roc_curves({"codes": recognition.verification(scores, same)}), "codes")
    curve = recognition.roc(scores, same)[:2]
    for far, tar in zip(*line.get_data(), strict=True):
        assert tar == recognition.tar_at_far(*curve, far)


def test_norm_histogram_counts_codes_of_one_length():
    codes = np.random.default_rng(0).normal(size=(50, 4))
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    figure = figures.norm_histogram({"sphere": 3 * codes}, radius=3.0)
    assert sum(patch.get_height() for patch in figure.axes[0].patches) == 50
    assert "radius 3" in [text.get_text() for text in figure.axes[0].texts]


def test_error_map_draws_each_view_and_a_scale_in_mm():
    ball = trimesh.creation.icosphere(2, radius=40)
    figure = figures.error_map(ball.vertices, ball.faces, np.abs(ball.vertices[:, 0]), highest=25.0)
    assert len(figure.axes) == 3
    assert figure.axes[2].get_ylim() == (0, 25)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    assert stream.tell() > 10_000


def test_image_grid_places_pictures():
    images = [[np.full((10, 20, 3), 10 * (3 * i + j), np.uint8) for j in range(3)] for i in range(2)]
    plain = figures.image_grid(images, gap=2)
    assert plain.shape == (22, 64, 3)
    assert plain[15, 25, 0] == 40
    labelled = figures.image_grid(images, ["a", "b", "c"], ["row", "longer row"], gap=2)
    np.testing.assert_array_equal(labelled[-22:, -64:], plain)
    with pytest.raises(ValueError, match="uint8 images of one shape"):
        figures.image_grid([[np.zeros((2, 2, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)]])


def test_figures_leave_no_style_behind():
    before = dict(matplotlib.rcParams)
    figures.curves({"a": ([1], [1])}, "", "")
    assert dict(matplotlib.rcParams) == before
