from pathlib import Path

import pytest

from kzoo.training import OwnPixels
from kzoo.training import settings as settings_module


def own_pixels(**options):
    return OwnPixels(data="folder:DIR", output=Path("runs/x"), export=Path("saved_models/x"), **options)


@pytest.mark.parametrize("zoom", [(0.0, 1.0), (2.0, 1.0), (1.0, 11.0), (float("nan"), 1.0)])
def test_zoom_is_checked(zoom):
    with pytest.raises(ValueError, match=r"zoom=\(.*: \(smallest, largest\) is expected"):
        own_pixels(zoom=zoom).check()


def test_crops_have_the_scale_of_whole_pictures_times_the_zoom(monkeypatch):
    loaded = []
    monkeypatch.setattr(settings_module, "load", lambda spec, **options: loaded.append(options))
    own_pixels(image_size=(200, 300), crop=0.5, zoom=(0.5, 1.5), elastic=3.0).load_pixels(border_sigma=2.0)
    train, validation, test = loaded
    # A crop of half the side is fitted at half the scale, which a zoom of two undoes.
    assert train["image_size"] == (100, 150) and validation["image_size"] == test["image_size"] == (200, 300)
    assert train["augment"].zoom == (1.0, 3.0) and train["augment"].elastic == 3.0
    assert validation["augment"] is test["augment"] is False
    assert all(options["task"] == "segmentation" and options["border_sigma"] == 2.0 for options in loaded)
