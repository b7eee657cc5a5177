import numpy as np

from kzoo.data.checking.tally import Tally, figures


def test_a_class_may_be_called_ignored():
    sizes, pixels = np.array([[10, 10]]), np.array([[20, 50, 30]])
    found = figures(Tally(sizes, None, np.zeros(0, int), None, 0, pixels), ["ground", "ignored"])
    assert found["pixels"] == {"ground": 0.5, "ignored": 0.3}
    assert found["ignored_pixels"] == 0.2
    assert found["classes"] == {"ground": 1, "ignored": 1}
