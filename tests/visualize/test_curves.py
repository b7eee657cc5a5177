import math

import pytest
from PIL import Image

from kzoo.visualize import compare_trainings, training_curves


def drawn_lines(draw, monkeypatch):
    """The curves of each panel by their label, as they were given to matplotlib."""
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args: (figures.append(self), save(self, *args)))
    draw()
    return [
        {line.get_label(): line.get_xydata().tolist() for line in panel.lines} for panel in figures[0].axes
    ]


def test_training_curves_of_a_csv_log(tmp_path, monkeypatch):
    log = tmp_path / "log.csv"
    log.write_text(
        "epoch,box_loss,first_stage,learning_rate,loss,val_AP,val_AP50,val_first_stage,val_loss\n"
        "0,1.0,9,0.1,2.0,0.1,0.3,7,2.5\n1,0.75,8,0.1,1.5,nan,nan,6,NA\n2,0.5,7,0.1,1.0,0.4,0.6,5,1.25\n"
    )
    path = tmp_path / "curves.png"
    losses, precisions = drawn_lines(lambda: training_curves(log, path), monkeypatch)
    assert losses == {
        "total": [[1, 2.0], [2, 1.5], [3, 1.0]],
        "_total, validation": [[1, 2.5], [3, 1.25]],
        "box": [[1, 1.0], [2, 0.75], [3, 0.5]],
        "first stage": [[1, 9], [2, 8], [3, 7]],
        "_first stage, validation": [[1, 7], [2, 6], [3, 5]],
    }
    assert precisions == {"AP": [[1, 0.1], [3, 0.4]], "AP50": [[1, 0.3], [3, 0.6]]}
    assert Image.open(path).size[0] > 1000


def test_training_curves_of_a_model_of_five_losses_and_masks(tmp_path, monkeypatch):
    parts = ("rpn_objectness", "rpn_box", "classification", "box", "mask")
    history = {name: [0.5, 0.25] for name in parts} | {"loss": [2.5, 1.25]}
    history |= {f"val_{name}": values for name, values in history.items()}
    history |= {"val_AP": [0.1, 0.2], "val_AP50": [0.3, 0.4], "val_AP75": [0, 0.1]}
    history |= {"val_mask_AP": [0.1, 0.15], "val_mask_AP50": [0.3, 0.35], "val_mask_AP75": [0, 0.05]}
    losses, precisions = drawn_lines(lambda: training_curves(history, tmp_path / "curves.png"), monkeypatch)
    shown = [name for name in losses if not name.startswith("_")]
    assert shown == ["total", "rpn objectness", "rpn box", "classification", "box", "mask"]
    assert len(losses) == 12
    assert list(precisions) == [
        f"{name} of {kind}" for name in ("AP", "AP50", "AP75") for kind in ("boxes", "masks")
    ]
    assert precisions["AP50 of masks"] == [[1, 0.3], [2, 0.35]]


def test_training_curves_of_a_history_without_precision(tmp_path, monkeypatch):
    history = {"loss": [3.0, math.nan, 1.0], "accuracy": [0.1, 0.2, 0.3]}
    (losses,) = drawn_lines(lambda: training_curves(history, tmp_path / "curves.png"), monkeypatch)
    assert losses == {"total": [[1, 3.0], [3, 1.0]]}


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("accuracy", "top5_accuracy"), ["accuracy", "top5 accuracy"]),
        (("mean_iou", "mean_dice", "pixel_accuracy"), ["mean IoU", "mean Dice", "pixel accuracy"]),
        (("mean_iou", "accuracy", "AP50"), ["mean IoU", "accuracy", "AP50"]),
    ],
)
def test_training_curves_of_what_any_task_reached(tmp_path, monkeypatch, names, labels):
    history = {"loss": [2.0, 1.0], "part": [2.0, 1.0], "accuracy": [0.1, 0.2], "val_loss": [3.0, 2.0]}
    history |= {"val_part": [3.0, 2.0]} | {f"val_{name}": [0.25, 0.5] for name in names}
    losses, reached = drawn_lines(lambda: training_curves(history, tmp_path / "curves.png"), monkeypatch)
    assert list(losses) == ["total", "_total, validation"]  # of which the only part is no other curve
    assert reached == {label: [[1, 0.25], [2, 0.5]] for label in labels}


@pytest.mark.parametrize("text", ["", "epoch,loss\n", "epoch,accuracy\n0,0.5\n"])
def test_a_log_without_losses_is_told(tmp_path, text):
    log = tmp_path / "log.csv"
    log.write_text(text)
    with pytest.raises(ValueError, match=r"no losses to draw in .*log\.csv"):
        training_curves(log, tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_trainings_are_compared_panel_by_panel(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("epoch,box,val_AP\n0,2.0,0.1\n1,1.0,0.3\n")
    (tmp_path / "b.csv").write_text("epoch,box,val_AP\n0,3.0,nan\n1,0.5,0.4\n")
    logs = {name: tmp_path / f"{name}.csv" for name in ("a", "b")}
    path = tmp_path / "both.png"
    losses, precisions = drawn_lines(lambda: compare_trainings(logs, ["box", "val_AP"], path), monkeypatch)
    assert losses == {"a": [[1, 2.0], [2, 1.0]], "b": [[1, 3.0], [2, 0.5]]}
    assert precisions == {"a": [[1, 0.1], [2, 0.3]], "b": [[2, 0.4]]}
    assert Image.open(path).size[0] > 1000
    with pytest.raises(ValueError, match="b.csv: no column 'mask'; it has epoch, box, val_AP"):
        compare_trainings({"b": logs["b"]}, ["mask"], path)
