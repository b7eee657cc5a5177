import math

import pytest

from kzoo.training.best import Best


class Model:
    """What is saved is the number of the epoch."""

    epoch = 0

    def save(self, path, include_optimizer):
        assert not include_optimizer and path.suffix == ".keras"
        path.write_text(str(self.epoch))


@pytest.fixture
def kept(tmp_path):
    """The epochs after which a model was kept, by what each reached."""

    def keep(*reached, model=None):
        best = Best(tmp_path / "best.keras", "val_AP", tmp_path / "log.csv")
        best.set_model(model or Model())
        best.on_train_begin()
        epochs = []
        for epoch, figure in enumerate(reached):
            best.model.epoch = epoch
            best.on_epoch_end(epoch, {"val_AP": figure, "loss": 1.0})
            if (tmp_path / "best.keras").exists():
                epochs.append(int((tmp_path / "best.keras").read_text()))
        return epochs

    return keep


@pytest.mark.parametrize(
    ("reached", "kept_epochs"),
    [
        ((0.1, 0.3, 0.2, 0.4), [0, 1, 1, 3]),
        ((0.2, 0.2, 0.2), [0, 0, 0]),  # the first of equals
        ((math.nan, 0.0, math.nan, 0.1), [1, 1, 3]),
        ((math.nan, math.nan), []),
    ],
)
def test_the_best_epoch_is_kept(kept, reached, kept_epochs, tmp_path):
    assert kept(*reached) == kept_epochs
    assert {path.name for path in tmp_path.iterdir()} <= {"best.keras"}


@pytest.mark.parametrize(
    ("earlier", "kept_epochs"),
    [("0.1\n1,0.3", [1]), ("nan\n1,nan", [0, 1]), ("\n1,", [0, 1]), ("0.1\n1,0.25", [0, 1])],
)
def test_epochs_of_an_earlier_part_count(kept, earlier, kept_epochs, tmp_path):
    (tmp_path / "log.csv").write_text(f"epoch,val_AP\n0,{earlier}\n")
    assert kept(0.3, 0.4) == kept_epochs


def test_without_the_figure_nothing_is_kept(tmp_path):
    best = Best(tmp_path / "best.keras", "val_AP", tmp_path / "log.csv")
    best.set_model(Model())
    best.on_train_begin()
    best.on_epoch_end(0, {"loss": 1.0})
    best.on_epoch_end(0)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved_leaves_the_one_before(kept, tmp_path):
    class Full(Model):
        def save(self, path, include_optimizer):
            path.write_text("half")
            raise OSError("no space left")

    kept(0.1)
    with pytest.raises(OSError, match="no space left"):
        kept(0.2, model=Full())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["0"]
