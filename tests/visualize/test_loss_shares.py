import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from kzoo.visualize import loss_shares
from kzoo.visualize.loss_shares import cumulative_shares


def test_shares_of_a_few_losses():
    fractions, shares = cumulative_shares(np.array([[3.0, 0.0], [1.0, 4.0]]))
    np.testing.assert_allclose(fractions, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(shares, [0, 0, 1 / 8, 4 / 8, 1])


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=50).filter(any), st.integers(1, 9))
def test_the_laws_of_a_sorted_sum(losses, factor):
    fractions, shares = cumulative_shares(np.array(losses))
    assert (fractions[0], fractions[-1], shares[0]) == (0, 1, 0)
    assert shares[-1] == pytest.approx(1)
    assert (np.diff(fractions) > 0).all()
    assert (shares <= fractions + 1e-9).all()  # the easiest half has at most half of the loss
    assert (np.diff(np.diff(shares) / np.diff(fractions)) > -1e-9).all()  # it bends upwards
    np.testing.assert_allclose(cumulative_shares(np.array(losses) * factor)[1], shares)


def test_many_losses_are_told_by_few_points_that_lie_dense_at_the_end():
    losses = np.concatenate([np.zeros(99_999), [1.0]])
    fractions, shares = cumulative_shares(losses)
    assert len(fractions) < 2500
    np.testing.assert_array_equal(shares[:-1], 0)  # only the very last sample has any
    assert fractions[-2] > 0.9999


def test_two_panels_with_a_curve_for_each_training(tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args: (figures.append(self), save(self, *args)))
    path = tmp_path / "shares.png"
    loss_shares({"a": (np.array([1.0, 3]), np.array([2.0])), "b": (np.ones(4), np.ones(4))}, path)
    foreground, background = figures[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in foreground.lines}
    assert lines["a"] == [[0, 0], [0.5, 0.25], [1, 1]]
    assert {line.get_label() for line in background.lines} == {"a", "b"}
    assert (foreground.get_title(), background.get_title()) == ("Foreground anchors", "Background anchors")
    assert Image.open(path).size[0] > 1000


@pytest.mark.parametrize("losses", [[], [0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [np.inf]])
def test_losses_that_cannot_be_shared_out(tmp_path, losses):
    with pytest.raises(ValueError, match="a, background: one or more losses"):
        loss_shares({"a": (np.ones(2), np.array(losses))}, tmp_path / "shares.png")
    with pytest.raises(ValueError, match="no training"):
        loss_shares({}, tmp_path / "shares.png")
