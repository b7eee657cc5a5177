"""Why focal loss: the same RetinaNet with five losses, and which part of each loss easy background makes up.

    python recipes/focal_loss_shapes.py

One detector and one seed, trained with the plain cross-entropy, with the alpha-balanced one, and with focal
loss of gamma 0.5, 1 and 2 (Lin et al. 2017, equations 1, 3 and 5). Each leaves a run's folder. `losses.png`
shows them side by side; `shares.png` is figure 4 of the paper: of the losses of all anchors of the test
pictures, sorted, the share that the easiest make up. For it one model answers, that of gamma 2, so that only
the loss differs from curve to curve. `comparison.json` has the figures.

Takes: five trainings; with --epochs 2, minutes each on busy cores.
Reached: docs/results.md.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import kzoo
from kzoo import command_line, training
from kzoo.visualize import compare_trainings, loss_shares

LOSSES = {
    "cross-entropy": {"focal_alpha": None, "focal_gamma": 0.0},
    "alpha-balanced": {"focal_alpha": 0.25, "focal_gamma": 0.0},
    "focal, gamma 0.5": {"focal_alpha": 0.25, "focal_gamma": 0.5},
    "focal, gamma 1": {"focal_alpha": 0.25, "focal_gamma": 1.0},
    "focal, gamma 2": {"focal_alpha": 0.25, "focal_gamma": 2.0},
}
EASY = 0.1  # background with less than this probability of an object is easy


@dataclass(frozen=True, kw_only=True)
class Settings(training.Shapes):
    """The same RetinaNet with the plain, the balanced and the focal loss, on shapes."""

    output: Path = Path("runs/focal_loss_shapes")
    export: Path = Path("saved_models/focal_loss_shapes")


def folder(loss: str) -> str:
    """What a training's folder is called."""
    return loss.replace(", ", "_").replace(" ", "_")


def train_with(loss: str, settings: Settings) -> tuple["kzoo.ZooModel", dict[str, float]]:
    """One training: the model and its figures."""
    settings = dataclasses.replace(
        settings, output=settings.output / folder(loss), export=settings.export / folder(loss)
    )
    strategy = training.prepare(settings, several_workers=False)  # the seed, too: all begin alike
    train, validation, test = settings.load()

    with strategy.scope():
        model = kzoo.build(
            "retinanet",
            num_classes=len(train.classes),
            input_shape=(128, 128, 3),
            backbone=settings.backbone,
            pyramid_channels=64,
            head_depth=2,
            normalization="batch",
            anchor_sizes=(16, 32),
            box_loss="giou",
            **LOSSES[loss],
        )
        model.compile(settings.make_optimizer())

    run = training.Run(settings, train.classes)
    run.fit(model, train, validation)
    run.measure(model, test)
    run.export(model, test)
    return model, run.metrics


def losses_of_anchors(
    model: "kzoo.ZooModel", test, wanted: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """What the anchors of the test pictures would add to each of the wanted losses.

    Returns:
        From the name of a loss to `foreground` [n], of the anchors that answer for an object; `background`
        [m], of those that lie on none; and `easy` [m], which of the latter are easy.
    """
    import keras
    import tensorflow as tf

    from kzoo.layers.matching import BACKGROUND
    from kzoo.losses.detection import matched_classes
    from kzoo.losses.functions import focal_loss

    answered = [model.get_layer(name).output for name in ("class_head_levels", "match")]
    inside = keras.Model(model.input, answered)
    parts = {name: {"foreground": [], "background": [], "easy": []} for name in wanted}
    for batch in test:
        logits, matches = inside({name: batch[name] for name in model.input}, training=False)
        num_classes = logits.shape[-1]
        targets = tf.one_hot(
            matched_classes(matches, batch["classes"], num_classes), num_classes
        )  # [B, A, C]
        easy = tf.reduce_all(tf.sigmoid(tf.cast(logits, tf.float32)) < EASY, axis=-1)
        for name in wanted:
            loss = LOSSES[name]
            each = focal_loss(logits, targets, loss["focal_alpha"], loss["focal_gamma"])
            each = tf.reduce_sum(each, axis=-1)  # [B, A]
            parts[name]["foreground"].append(each[matches >= 0])
            parts[name]["background"].append(each[matches == BACKGROUND])
            parts[name]["easy"].append(easy[matches == BACKGROUND])
    return {
        name: {part: np.concatenate(values) for part, values in found.items()}
        for name, found in parts.items()
    }


def share_of_easy(losses: dict[str, np.ndarray]) -> float:
    """The share of the whole loss that easy background makes up."""
    easy = losses["background"][losses["easy"]].sum(dtype=float)
    return easy / (losses["foreground"].sum(dtype=float) + losses["background"].sum(dtype=float))


def main(settings: Settings) -> None:
    """Trains five times, compares, and looks at the losses of single anchors."""
    figures, models = {}, {}
    for loss in LOSSES:
        models[loss], metrics = train_with(loss, settings)
        figures[loss] = {name: metrics[name] for name in ("AP", "AP50", "AP75", "seconds")}
    _, _, test = settings.load()
    last = losses_of_anchors(models["focal, gamma 2"], test, list(LOSSES))
    for loss, model in models.items():
        own = losses_of_anchors(model, test, [loss])
        figures[loss]["easy share, its own model"] = share_of_easy(own[loss])
        figures[loss]["easy share, model of gamma 2"] = share_of_easy(last[loss])
    (settings.output / "comparison.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    curves = {
        f"{name}: easy background is {share_of_easy(losses):.1%} of the loss": (
            losses["foreground"],
            losses["background"],
        )
        for name, losses in last.items()
    }
    loss_shares(curves, settings.output / "shares.png")
    logs = {loss: settings.output / folder(loss) / "log.csv" for loss in LOSSES}
    compare_trainings(logs, ("box", "val_AP"), settings.output / "losses.png")
    for loss, values in figures.items():
        print(f"{loss:<18}", "  ".join(f"{name} {value:.3g}" for name, value in values.items()))
    print(f"{settings.output / 'shares.png'}   how the loss is spread over the anchors")
    print(f"{settings.output / 'losses.png'}   all trainings")


if __name__ == "__main__":
    command_line.run_recipe(main, Settings, __doc__)
