from pathlib import Path

import pytest

from kzoo.training import OwnObjects, OwnPixels
from kzoo.training import settings as settings_module


def own_pixels(**options):
    return OwnPixels(data="folder:DIR", output=Path("runs/x"), export=Path("saved_models/x"), **options)


def own_objects(**options):
    paths = {"output": Path("runs/x"), "export": Path("saved_models/x")}
    return OwnObjects(data="coco:DIR", anchor_sizes=(16.0,), **paths, **options)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rotate": 200.0}, "rotate=200.0.*from 0 to 180"),
        ({"mosaic": 1.5}, "mosaic=1.5.*from 0 to 1"),
        ({"mixup": -0.5}, "mixup=-0.5.*from 0 to 1"),
        ({"copy_paste": 2.0}, "copy_paste=2.0.*from 0 to 1"),
    ],
)
def test_what_changes_pictures_is_checked(wrong, told):
    own_objects().check()
    with pytest.raises(ValueError, match=told):
        own_objects(**wrong).check()


def test_pictures_to_learn_from_are_changed_as_told(monkeypatch):
    loaded = []
    monkeypatch.setattr(settings_module, "load", lambda spec, **options: loaded.append(options))
    settings = own_objects(rotate=10.0, mosaic=0.5, mixup=0.1, copy_paste=0.3, any_way_up=True)
    settings.load("instance_segmentation")
    train, validation, test = (options["augment"] for options in loaded)
    assert (train.rotate, train.mosaic, train.mixup, train.copy_paste) == (10.0, 0.5, 0.1, 0.3)
    assert train.quarter_turns and validation is test is False
    own_pixels(rotate=5.0).load_pixels()
    assert loaded[3]["augment"].rotate == 5.0 and not loaded[3]["augment"].mosaic


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


def test_pictures_are_kept_where_it_is_told(monkeypatch, tmp_path):
    loaded = []
    monkeypatch.setattr(settings_module, "load", lambda spec, **options: loaded.append(options))
    for cache in (None, "memory", str(tmp_path / "cache")):
        settings = own_objects(cache=cache)
        settings.check()
        settings.load()
        assert [options["cache"] for options in loaded[-3:]] == [cache] * 3
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cache=.*file' is a file"):
        own_objects(cache=str(tmp_path / "file")).check()
