import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from kzoo.visualize import confusion_matrix_picture


@pytest.fixture
def drawn(monkeypatch):
    """The figure that was saved last."""
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *arguments: (figures.append(self), save(self, *arguments))
    )
    return figures


def test_counts_and_shares_of_the_truth(tmp_path, drawn):
    matrix = np.array([[1999, 1, 0], [1, 3, 0], [0, 0, 0]])
    path = tmp_path / "confusion.png"
    confusion_matrix_picture(matrix, ("cat", "dog", "cow"), path, "accuracy 0.999")
    [figure] = drawn
    axes = figure.axes[0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}  # at (column, row)
    assert texts == {(0, 0): "1,999\n100%", (1, 0): "1\n<1%", (0, 1): "1\n25%", (1, 1): "3\n75%"}
    np.testing.assert_allclose(axes.images[0].get_array()[1], [0.25, 0.75, 0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "cow"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == (
        "taken for",
        "truth",
        "accuracy 0.999",
    )
    assert Image.open(path).size[0] > 300


def test_many_classes_are_told_by_counts_alone(tmp_path, drawn):
    names = [f"class {number}" for number in range(16)]
    confusion_matrix_picture(np.eye(16, dtype=int) * 7, names, tmp_path / "confusion.png")
    assert {text.get_text() for text in drawn[0].axes[0].texts} == {"7"}
    assert len(drawn[0].axes[0].texts) == 16
    confusion_matrix_picture(np.eye(61, dtype=int), list(map(str, range(61))), tmp_path / "confusion.png")
    assert not drawn[1].axes[0].texts
    assert Image.open(tmp_path / "confusion.png").size[0] < 3000


@pytest.mark.parametrize("matrix", [np.zeros([3, 3]), np.zeros([2, 3]), np.zeros([4])])
def test_a_matrix_of_other_classes(tmp_path, matrix):
    with pytest.raises(ValueError, match="but there are 2 classes"):
        confusion_matrix_picture(matrix, ("a", "b"), tmp_path / "confusion.png")
