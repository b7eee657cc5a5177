import numpy as np
import pytest
from PIL import Image

from kzoo.visualize import draw_classes, palette_picture
from kzoo.visualize.drawing import COLOURS, legend
from kzoo.visualize.pixels import FILL, IGNORED_COLOUR, class_legend

NAMES = ("background", "cell", "hole")


def picture(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, [height, width, 3], dtype=np.uint8)


def test_pixels_take_the_colour_of_their_class_over_grey():
    image = picture()
    classes = np.zeros([40, 60], np.int32)
    classes[10:20, 10:30], classes[30:, 40:] = 1, 2
    drawn = draw_classes(image, classes, NAMES, with_legend=False)
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(drawn[classes == 0], image[classes == 0])
    grey = image @ (0.299, 0.587, 0.114)
    for label, colour in ((1, COLOURS[0]), (2, COLOURS[1])):
        expected = (1 - FILL) * grey[classes == label, None] + FILL * np.array(colour)
        np.testing.assert_allclose(drawn[classes == label], expected, atol=1.1)


def test_without_a_background_every_class_has_a_colour():
    image = picture()
    drawn = draw_classes(image, np.zeros([40, 60], int), ("membrane", "cell"), with_legend=False)
    assert (drawn != image).any(axis=-1).mean() > 0.99
    numbered = draw_classes(image, np.full([40, 60], 25), (), with_legend=False)
    assert (numbered != image).any()


def test_what_is_ignored_is_hatched():
    image = picture()
    classes = np.zeros([40, 60], int)
    classes[:, 30:] = -1
    drawn = draw_classes(image, classes, NAMES, with_legend=False)
    hatched = (drawn[:, 30:] == IGNORED_COLOUR).all(axis=-1)
    assert 0.2 < hatched.mean() < 0.5
    np.testing.assert_array_equal(drawn[:, 30:][~hatched], image[:, 30:][~hatched])
    np.testing.assert_array_equal(drawn[:, :30], image[:, :30])


def test_the_legend_names_what_is_there():
    image = picture(40, 200)
    drawn = draw_classes(image, np.full([40, 200], 2), NAMES)
    assert drawn.shape[0] > 50
    beneath = drawn[40:].reshape(-1, 3).tolist()
    assert [list(colour) in beneath for colour in COLOURS[:2]] == [False, True]
    assert draw_classes(image, np.zeros([40, 200], int), NAMES).shape == image.shape
    assert draw_classes(image, np.full([40, 200], -1), NAMES).shape[0] > 50


def test_a_legend_breaks_into_lines():
    one = class_legend([1], NAMES, 400).height
    names = ("background", *(f"a name of class {number}" for number in range(30)))
    assert class_legend(range(31), names, 400).height > 8 * one
    assert class_legend([0], NAMES, 400).size == (400, 0)
    assert legend([("far too long a name", Image.new("RGB", (1, 1)))], 20).size == (20, one)


def test_classes_of_another_size_than_the_picture():
    with pytest.raises(ValueError, match=r"classes: shape \(40, 59\), but the picture has \(40, 60\)"):
        draw_classes(picture(), np.zeros([40, 59], int), NAMES)


def test_a_palette_picture_has_the_classes_as_values(tmp_path):
    classes = np.random.default_rng(0).integers(0, 3, [20, 30])
    palette_picture(classes, NAMES).save(tmp_path / "classes.png")
    with Image.open(tmp_path / "classes.png") as written:
        assert written.mode == "P"
        np.testing.assert_array_equal(np.asarray(written), classes)
        colours = np.asarray(written.convert("RGB"))
    expected = np.array([(0, 0, 0), COLOURS[0], COLOURS[1]])[classes]
    np.testing.assert_array_equal(colours, expected)
    palette_picture(np.full([2, 2], 255), ())
    for label in (-1, 256):
        with pytest.raises(ValueError, match=f"classes: {label} is among them"):
            palette_picture(np.full([2, 2], label), NAMES)
