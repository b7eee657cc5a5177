import dataclasses
import json

import keras
import numpy as np
import pytest

import kzoo
from kzoo.training import Run, fitting, run_folder
from kzoo.training.checkpoints import Checkpoints
from kzoo.training.run_folder import begin, cut_log, find_checkpoint

USED = {"precision": "float32", "classes": ("cat", "dog"), "pictures": 24, "steps_per_epoch": 3}


@pytest.fixture
def stopped(settings):
    """Settings of a run that was stopped after four steps."""
    options = settings()
    begin(options, USED)
    Checkpoints(options.output / "checkpoints").save(4, {}, {"epochs": 1})
    return options


def test_a_run_that_was_stopped_goes_on(stopped):
    assert find_checkpoint(stopped, USED).facts["step"] == 4


def test_one_of_which_not_all_was_measured_goes_on(stopped):
    (stopped.output / "metrics.json").write_text("{}")  # and was killed before its pictures were drawn
    assert find_checkpoint(stopped, USED).facts["step"] == 4


def test_one_that_was_measured_is_over(stopped):
    run_folder.forget_checkpoints(stopped.output)
    assert find_checkpoint(dataclasses.replace(stopped, epochs=7), USED) is None


def test_half_of_a_checkpoint_is_none(stopped):
    path = stopped.output / "checkpoints/step-00000004.npz"
    path.rename(path.with_name("step-00000004.partial.npz"))  # killed as it wrote the first one
    assert find_checkpoint(dataclasses.replace(stopped, epochs=7), USED) is None


def test_nothing_begins_in_a_new_folder(settings):
    assert find_checkpoint(settings("other"), USED) is None


@pytest.mark.parametrize("name", [field for field in fitting.Settings.FREE if field != "resume"])
def test_what_changes_nothing_that_is_learned_may_differ(stopped, name, tmp_path):
    other = {"output": stopped.output, "export": tmp_path / "elsewhere", "strategy": "none"}.get(name, 3)
    assert find_checkpoint(dataclasses.replace(stopped, **{name: other}), USED).facts["step"] == 4


@pytest.mark.parametrize(
    ("name", "other", "told"),
    [
        ("data", "voc:cells", "data='shapes' then, 'voc:cells' now"),
        ("epochs", 3, "epochs=2 then, 3 now"),
        ("minutes", 1.5, "minutes=None then, 1.5 now"),
        ("batch_size", 8, "batch_size=4 then, 8 now"),
        ("accumulate", 2, "accumulate=1 then, 2 now"),
        ("learning_rate", 0.1, "learning_rate=0.01 then, 0.1 now"),
        ("schedule", "step", "schedule='cosine' then, 'step' now"),
        ("averages", 0.9, "averages=0.0 then, 0.9 now"),
        ("weight_decay", 0.0, "weight_decay=0.02 then, 0.0 now"),
        ("backbone", "resnet18", "backbone='compact' then, 'resnet18' now"),
        ("seed", 1, "seed=0 then, 1 now"),
        ("strict", True, "strict=False then, True now"),
        ("max_pixels", 10, "max_pixels=100000000 then, 10 now"),
    ],
)
def test_what_changes_what_is_learned_is_refused(stopped, name, other, told):
    changed = dataclasses.replace(stopped, **{name: other})
    with pytest.raises(ValueError) as raised:
        find_checkpoint(changed, USED)
    assert str(raised.value) == (
        f"{stopped.output}: a run was stopped there that was started otherwise: {told}. Give the same to go "
        "on, another --output, or --no-resume to begin anew and lose what it learned."
    )
    assert find_checkpoint(dataclasses.replace(changed, resume=False), USED) is None


def test_every_setting_is_either_free_or_compared():
    names = {field.name for field in dataclasses.fields(fitting.Settings)}
    compared = names - set(fitting.Settings.FREE)
    marks = test_what_changes_what_is_learned_is_refused.pytestmark
    tested = {parameters[0] for mark in marks for parameters in mark.args[1]}
    assert compared - tested == {"precision"}  # of which what was made of it is compared


@pytest.mark.parametrize(
    "other",
    [{"precision": "mixed_bfloat16"}, {"classes": ("dog", "cat")}, {"pictures": 25}, {"steps_per_epoch": 4}],
    ids=lambda other: next(iter(other)),
)
def test_so_is_what_was_made_of_settings(stopped, other):
    with pytest.raises(ValueError, match=f"started otherwise: {next(iter(other))}=.* then, .* now"):
        find_checkpoint(stopped, USED | other)


@pytest.mark.parametrize("content", [None, "", "{", "[1, 2]", "null"])
def test_without_its_settings_a_run_does_not_go_on(stopped, content):
    path = stopped.output / "settings.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match="settings.json cannot be read.*--no-resume"):
        find_checkpoint(stopped, USED)


def files(directory):
    return {
        str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("moves", range(5))
def test_wherever_it_is_stopped_a_finished_run_is_kept_whole(settings, moves, monkeypatch):
    options = settings()
    finished = {name: f"new {name}" for name in ("model.keras", "metrics.json", "log.csv", "settings.json")}
    (options.output / "previous").mkdir()
    for name, content in finished.items():
        (options.output / name).write_text(content)
    (options.output / "previous/confusion.png").write_text("of the one before it")
    path_type, left = type(options.output), [moves]
    replace = path_type.replace

    def replacing(self, target):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return replace(self, target)

    monkeypatch.setattr(path_type, "replace", replacing)
    with pytest.raises(KeyboardInterrupt):
        begin(options, USED)
    monkeypatch.undo()
    begin(options, USED)
    kept = files(options.output)
    assert json.loads(kept.pop("settings.json"))["pictures"] == 24
    assert kept == {f"previous/{name}": content for name, content in finished.items()}


def test_of_a_run_that_was_stopped_nothing_is_kept(stopped):
    (stopped.output / "log.csv").write_text("epoch")
    (stopped.output / "mine.txt").write_text("mine")
    begin(stopped, USED)
    assert set(files(stopped.output)) == {"settings.json", "mine.txt"}


def test_the_log_is_cut_where_training_goes_on(tmp_path):
    cut_log(tmp_path, 2)
    assert list(tmp_path.iterdir()) == []
    for epochs, expected in (
        (5, "epoch,loss\n0,1\n1,2\n2,"),
        (2, "epoch,loss\n0,1\n1,2\n"),
        (0, "epoch,loss\n"),
    ):
        (tmp_path / "log.csv").write_text("epoch,loss\n0,1\n1,2\n2,")  # killed as it wrote
        cut_log(tmp_path, epochs)
        assert files(tmp_path) == {"log.csv": expected}


def test_a_run_that_was_killed_as_it_was_measured_is_measured_and_not_trained(settings, monkeypatch, capsys):
    options = settings(epochs=1, averages=0.5)
    data = {"task": "classification", "image_size": (32, 32), "batch_size": 4}
    batches = kzoo.data.load("shapes", split="val[:8]", **data)

    def run():
        keras.utils.set_random_seed(0)
        model = kzoo.build(
            "classifier", num_classes=5, input_shape=(32, 32, 3), backbone="cnn", label_smoothing=0.1
        )
        model.compile(options.make_optimizer())
        a_run = Run(options, batches.classes)
        a_run.fit(model, batches, batches)
        before = [variable.numpy() for variable in model.variables]
        a_run.measure(model, batches)
        return before, a_run.metrics

    with monkeypatch.context() as patch:
        patch.setattr(
            kzoo.visualize, "training_curves", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            run()
    metrics = json.loads((options.output / "metrics.json").read_text())
    trained = keras.models.load_model(options.output / "model.keras")
    log = (options.output / "log.csv").read_text()
    capsys.readouterr()
    weights, measured = run()
    told = capsys.readouterr().out
    assert "Trained already, as saved in" in told and "epoch" not in told
    for got, expected in zip(weights, trained.variables, strict=True):
        np.testing.assert_array_equal(got, expected.numpy())
    figures = kzoo.evaluation.nan_to_none(measured)
    assert figures.pop("seconds") > 0 < metrics.pop("seconds")  # of training alone
    assert figures == metrics
    assert (options.output / "log.csv").read_text() == log and len(log.splitlines()) == 2
    assert (options.output / "checkpoints").exists()  # until it is exported
