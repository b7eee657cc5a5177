import dataclasses

import keras
import pytest
import tensorflow as tf

from kzoo import workers
from kzoo.training import Settings, preparation, prepare


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "_strategies", {})
    monkeypatch.setattr(keras.config, "set_dtype_policy", lambda policy: None)
    return Settings(data="shapes", output=tmp_path / "run", export=tmp_path / "served", epochs=2)


class Several:
    """A strategy of two replicas."""

    num_replicas_in_sync = 2


@pytest.fixture
def two_workers(monkeypatch):
    monkeypatch.setattr(preparation, "find_strategy", lambda name: Several())
    monkeypatch.setattr(workers, "several_workers", lambda strategy: True)
    monkeypatch.setattr(workers, "is_chief", lambda strategy: True)
    monkeypatch.setattr(workers, "described", lambda strategy: "2 workers with 1 replica each")


def test_one_device_is_the_usual_case(settings):
    assert prepare(settings) is tf.distribute.get_strategy()


def test_workers_are_joined_once(settings, two_workers, capsys):
    assert prepare(settings) is prepare(dataclasses.replace(settings, seed=1))
    assert capsys.readouterr().out.splitlines() == ["Training on 2 workers with 1 replica each."] * 2


@pytest.mark.parametrize(
    ("given", "several_workers", "told"),
    [
        ({"minutes": 1.0}, True, "minutes=1.0: there are 2 workers.*--epochs"),
        ({"accumulate": 2}, True, "accumulate=2: there are 2 workers.*batch_size"),
        ({}, False, "strategy='auto': there are 2 workers.*devices of one machine"),
    ],
)
def test_what_workers_cannot_do_is_refused(settings, two_workers, given, several_workers, told):
    with pytest.raises(ValueError, match=told):
        prepare(dataclasses.replace(settings, **given), several_workers=several_workers)


def test_a_run_of_other_settings_is_refused_before_anything_is_read(settings):
    (settings.output / "checkpoints").mkdir(parents=True)
    (settings.output / "checkpoints/step-00000002.npz").write_bytes(b"")
    (settings.output / "settings.json").write_text('{"epochs": 3}')
    with pytest.raises(ValueError, match=r"epochs=3 then, 2 now.*--no-resume"):
        prepare(settings)
    prepare(dataclasses.replace(settings, resume=False))
