from dataclasses import dataclass
from pathlib import Path

import pytest

from kzoo.training import CosineSchedule, OwnObjects, OwnPixels, StepSchedule
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


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({}, 1.0),
        ({"batch_size": 32}, 2.0),
        ({"accumulate": 4}, 2.0),
        ({"batch_size": 2, "accumulate": 9}, 1.5),
    ],
)
def test_the_rate_follows_the_root_of_the_batch(options, factor):
    settings = own_pixels(learning_rate=1e-3, **options)  # for the usual eight
    assert settings.peak_learning_rate == pytest.approx(factor * 1e-3)
    assert settings.make_schedule(10).peak == settings.peak_learning_rate
    assert float(settings.make_optimizer().learning_rate) == pytest.approx(factor * 1e-3)


def test_the_usual_batch_is_the_recipes_own():
    @dataclass(frozen=True, kw_only=True)
    class Large(OwnPixels):
        batch_size: int = 32

    places = {"data": "folder:DIR", "output": Path("runs/x"), "export": Path("saved_models/x")}
    assert Large(learning_rate=1e-3, **places).peak_learning_rate == pytest.approx(1e-3)
    assert Large(learning_rate=1e-3, batch_size=8, **places).peak_learning_rate == pytest.approx(0.5e-3)


def test_the_schedule_and_the_optimizer_are_as_told():
    settings = own_pixels(schedule="step", epochs=3, averages=0.9, accumulate=4, weight_decay=0.5)
    schedule, optimizer = settings.make_schedule(10), settings.make_optimizer(backbone_rate=0.25)
    assert (type(schedule), schedule.steps, schedule.minutes) == (StepSchedule, 30, None)
    assert (optimizer.use_ema, optimizer.ema_momentum, optimizer.gradient_accumulation_steps) == (
        True,
        0.9,
        4,
    )
    assert (optimizer.weight_decay, optimizer.backbone_rate) == (0.5, 0.25)
    by_the_clock = own_pixels(minutes=1.5).make_schedule(10)
    assert (type(by_the_clock), by_the_clock.steps, by_the_clock.minutes) == (CosineSchedule, None, 1.5)
    assert not own_pixels().make_optimizer().use_ema
    assert own_pixels().make_optimizer().gradient_accumulation_steps is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"accumulate": 0}, "accumulate=0"),
        ({"schedule": "linear"}, "schedule.*linear.*cosine"),
        ({"averages": 1.0}, "averages=1.0: a number of at least 0 and below 1"),
        ({"averages": float("nan")}, "averages=nan"),
        ({"checkpoint_minutes": 0.0}, "checkpoint_minutes=0.0: a number of more than 0"),
        ({"checkpoint_minutes": float("inf")}, "checkpoint_minutes=inf"),
        ({"checkpoint_steps": 0}, "checkpoint_steps=0"),
    ],
)
def test_how_it_learns_and_saves_is_checked(wrong, told):
    with pytest.raises(ValueError, match=told):
        own_pixels(**wrong).check()
