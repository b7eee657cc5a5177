import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from kzoo.backbones import keras_cv
from kzoo.backbones.adapters import Backbone, adapted_features, adapter_names


def model_of(name, shape=(None, None), frozen=False):
    images = keras.Input((*shape, 3), name="images")
    features = adapted_features(images, name, frozen)
    return keras.Model(images, {f"C{level}": tensor for level, tensor in features.items()})


def pictures(height, width):
    return np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype("float32")


def normalizations(model):
    return [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]


def test_names_are_known_without_importing_keras_cv():
    script = """
import sys
from kzoo.backbones.adapters import adapter_names
names = adapter_names()
assert {"keras.applications.EfficientNetB0", "keras.applications.Xception"} <= set(names)
assert {"keras_cv.resnet18_v2", "keras_cv.csp_darknet_tiny", "keras_cv.vitdet_base"} <= set(names)
assert len(names) == len(set(names))
sys.exit("keras_cv" in sys.modules)
"""
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_names_of_keras_cv_are_its_presets_without_weights():
    from keras_cv.src.models.backbones import backbone_presets
    from keras_cv.src.models.backbones.mix_transformer import mix_transformer_backbone_presets

    presets = (
        backbone_presets.backbone_presets_no_weights
        | mix_transformer_backbone_presets.backbone_presets_no_weights
    )
    pictures = {name for name in presets if not name.startswith("videoswin")}
    assert set(keras_cv.names()) == pictures | {"vgg16"}


@pytest.mark.parametrize(
    ("name", "parameters", "channels"),
    [
        # Parameters as published: those of keras-cv in the metadata of its presets.
        ("keras.applications.EfficientNetB0", 4_049_571, [96, 144, 240, 672, 1280]),
        ("keras.applications.MobileNetV3Small", 939_120, [16, 72, 96, 288, 576]),
        ("keras_cv.resnet18_v2", 11_183_488, [64, 128, 256, 512, 512]),
        ("keras_cv.csp_darknet_tiny", 2_380_416, [24, 48, 96, 192, 384]),
    ],
)
def test_a_map_a_level_for_any_size(name, parameters, channels):
    model = model_of(name)
    assert model.count_params() == parameters
    for height, width in ((64, 96), (61, 67)):
        features = model(pictures(height, width))
        assert {level: tensor.shape[1:] for level, tensor in features.items()} == {
            f"C{level}": (math.ceil(height / 2**level), math.ceil(width / 2**level), count)
            for level, count in enumerate(channels, start=1)
        }
        assert all(np.abs(tensor).max() > 0 for tensor in features.values())
    assert [layer.name for layer in model.layers if "backbone" in layer.name][-1] == "backbone"


def test_known_sizes_are_known():
    outputs = model_of("keras.applications.MobileNetV3Small", (61, 67)).output
    assert outputs["C5"].shape == (None, 2, 3, 576)
    assert outputs["C1"].shape == (None, 31, 34, 16)


@pytest.mark.parametrize(
    ("name", "frozen", "count"),
    [
        # The stem, strides, the pooling block, stages, bottlenecks.
        ("keras_cv.csp_darknet_tiny", True, 1 + 4 + 2 + 4 * 3 + 8 * 2),
        ("keras.applications.MobileNet", False, 1 + 13 * 2),
    ],
)
def test_frozen_or_not_is_saved_and_loaded(name, frozen, count, tmp_path):
    """In keras-cv's darknet normalisation hides within layers, and there are lambdas, which do not load."""
    model = model_of(name, frozen=frozen)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.get_layer("backbone"), Backbone)
    expected = model(pictures(33, 64))
    for level, tensor in loaded(pictures(33, 64)).items():
        np.testing.assert_allclose(tensor, expected[level], rtol=1e-4, atol=1e-5)
    for which in (model, loaded):
        found = normalizations(which)
        assert len(found) == count
        before = [layer.get_weights() for layer in found]
        which(pictures(32, 32), training=True)
        moved = [
            not np.array_equal(old, new)
            for layer, weights in zip(found, before, strict=True)
            for old, new in zip(weights[2:], layer.get_weights()[2:], strict=True)
        ]
        assert not any(moved) if frozen else all(moved)
        learning = {variable.path.split("/")[-1] for variable in which.trainable_variables}
        assert learning == ({"kernel"} if frozen else {"kernel", "gamma", "beta"})


def test_two_models_and_an_exported_one(tmp_path):
    name = "keras.applications.MobileNet"
    first, second = model_of(name), model_of(name)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    first.save_weights(tmp_path / "model.weights.h5")
    second.load_weights(tmp_path / "model.weights.h5")
    expected = first(pictures(40, 50))
    np.testing.assert_allclose(second(pictures(40, 50))["C5"], expected["C5"], rtol=1e-5, atol=1e-6)
    first.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(tmp_path / "saved")
    served = saved.serve(pictures(40, 50))
    np.testing.assert_allclose(served["C5"], expected["C5"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("keras.applications.EfficientNetB9", (64, 64), 'unknown. Nearest: "keras.applications.EfficientNet'),
        ("keras_cv.mit_b0", (64, 96), "takes square pictures of one size, a multiple of 32, .* has 64 x 96"),
        ("keras_cv.vitdet_base", (None, None), "a multiple of 16, but input_shape has None x None"),
        ("keras.applications.VGG16", (16, 16), "pictures of 16 x 16, which may be too small"),
    ],
)
def test_what_does_not_go_is_told(name, shape, message):
    with pytest.raises(ValueError, match=message):
        model_of(name, shape)


def test_without_keras_cv(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(ImportError, match=r'backbone="keras_cv.resnet18_v2": .*pip install keras-cv==0.9.0'):
        model_of("keras_cv.resnet18_v2")
    assert "keras_cv.resnet18_v2" in adapter_names()
