import keras
import numpy as np
import pytest
from keras import layers

import kzoo
from kzoo.weights.fit import CLASS_LAYERS, Fitted, fit, variables_by_name


def model_of(classes=3, units=4):
    inputs = keras.Input((2,))
    x = layers.Dense(units, name="backbone_first")(inputs)
    x = layers.BatchNormalization(name="backbone_bn")(x)
    x = layers.Dense(5, name="neck")(x)
    return keras.Model(inputs, layers.Dense(classes, name="classes_of_picture")(x), name="toy")


def arrays_of(model, seed=0):
    """Other values for all weights of a model."""
    rng = np.random.default_rng(seed)
    return {name: rng.random(of.shape, np.float32) for name, of in variables_by_name(model).items()}


def assert_holds(model, arrays):
    found = variables_by_name(model)
    for name, expected in arrays.items():
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


@pytest.fixture
def model():
    return model_of()


def told(model, arrays, **options):
    """The message of an error, after which the model is what it was."""
    before = model.get_weights()
    with pytest.raises(ValueError) as error:
        fit(model, arrays, source="a.pth", **options)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    return str(error.value)


def test_variables_by_name(model):
    assert list(variables_by_name(model)) == [
        *("backbone_first/kernel", "backbone_first/bias"),
        *(f"backbone_bn/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")),
        *("neck/kernel", "neck/bias", "classes_of_picture/kernel", "classes_of_picture/bias"),
    ]


def test_variables_of_a_network_within_are_counted():
    inner = keras.Sequential([keras.Input((2,)), layers.Dense(3), layers.Dense(4)], name="backbone")
    model = keras.Sequential([keras.Input((2,)), inner, layers.Dense(1, name="last")])
    found = variables_by_name(model)
    assert list(found) == [*(f"backbone/{i}" for i in range(4)), "last/kernel", "last/bias"]
    assert found["backbone/2"] is inner.layers[1].kernel


def test_all_weights_by_their_names(model):
    arrays = arrays_of(model)
    fitted = fit(model, dict(reversed(arrays.items())), source="a.pth")
    assert_holds(model, arrays)
    assert fitted == Fitted("a.pth", ("backbone_first", "backbone_bn", "neck", "classes_of_picture"), {}, ())
    assert str(fitted) == "4 layers have the weights of a.pth."


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_precisions(model, dtype):
    arrays = {name: array.astype(dtype) for name, array in arrays_of(model).items()}
    fit(model, arrays, source="")
    assert_holds(model, {name: array.astype(np.float32) for name, array in arrays.items()})


def test_bfloat16(model):
    arrays = {name: array.astype("bfloat16") for name, array in arrays_of(model).items()}
    fit(model, arrays, source="")
    assert_holds(model, {name: array.astype(np.float32) for name, array in arrays.items()})


def test_views_and_whole_numbers(model):
    """Turned arrays as they are read, and the count that keras.layers.Normalization has."""
    arrays = arrays_of(model)
    fit(model, {name: array.T.copy().T for name, array in arrays.items()}, source="")
    assert_holds(model, arrays)
    counting = keras.Sequential([keras.Input((2,)), layers.Normalization(name="backbone_normalize")])
    fit(counting, {f"backbone_normalize/{name}": np.float32([2, 3]) for name in ("mean", "variance")}
        | {"backbone_normalize/count": np.int32(7)}, source="")  # fmt: skip
    assert int(counting.get_layer("backbone_normalize").count) == 7


def test_both_sides_are_told(model):
    arrays = arrays_of(model)
    del arrays["neck/bias"], arrays["backbone_bn/gamma"]
    arrays |= {
        "neck/kernel": np.zeros([5, 4]),
        "extra/kernel": np.zeros(2),
        "backbone_bn/count": np.zeros(1),
    }
    assert told(model, arrays) == (
        "a.pth: does not fit toy; the model's without a counterpart: backbone_bn/gamma, neck/bias; the "
        "file's without a counterpart: extra/kernel, backbone_bn/count; of another shape: neck/kernel "
        "((5, 4) there, (4, 5) here). include= and skip= take patterns of layers."
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("neck/bias"), "the model's without a counterpart: neck/bias. include"),
        (lambda arrays: arrays.update(x=0), "the file's without a counterpart: x. include"),
        (
            lambda arrays: arrays.update({"neck/bias": np.zeros(6)}),
            r"shape: neck/bias \(\(6,\) there, \(5,\)",
        ),
        (lambda arrays: arrays.update({"neck/bias": np.zeros(())}), r"neck/bias \(\(\) there, \(5,\) here\)"),
    ],
)
def test_one_side_is_told_alone(model, change, message):
    arrays = arrays_of(model)
    change(arrays)
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"a.pth: does not fit toy; .*{message}") as error:
        fit(model, arrays, source="a.pth")
    assert str(error.value).count(";") == 1
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_long_lists_are_cut(model):
    message = told(model, {f"layer{i}/kernel": np.zeros(1) for i in range(100)})
    assert "backbone_bn/moving_variance, neck/kernel, neck/bias and 2 more;" in message
    assert "layer6/kernel, layer7/kernel and 92 more." in message


def test_notes_have_all_of_a_long_list(model):
    arrays = {f"layer{i}/kernel": np.zeros(1) for i in range(100)}
    with pytest.raises(ValueError) as error:
        fit(model, arrays | arrays_of(model), source="a.pth")
    assert error.value.__notes__ == [f"the file's without a counterpart, all 100: {', '.join(arrays)}"]


def test_with_other_classes_the_last_layer_begins_anew():
    model = model_of(classes=7)
    before = model.get_layer("classes_of_picture").get_weights()
    arrays = arrays_of(model_of(classes=3))
    fitted = fit(model, arrays, source="a.pth")
    assert_holds(model, {name: array for name, array in arrays.items() if "classes" not in name})
    for old, new in zip(before, model.get_layer("classes_of_picture").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert fitted.layers == ("backbone_first", "backbone_bn", "neck")
    assert list(fitted.anew) == ["classes_of_picture"] and fitted.left == ()
    lines = str(fitted).splitlines()
    assert lines[0] == "3 layers have the weights of a.pth."
    assert lines[1].startswith("classes_of_picture begins anew: classes_of_picture/")
    assert "(3,) there, (7,) here" in lines[1] or "(5, 3) there, (5, 7) here" in lines[1]


def test_a_layer_of_other_classes_begins_anew_as_a_whole():
    """Also where only its bias differs in shape: none of its weights is taken."""
    model = model_of()
    arrays = arrays_of(model) | {"classes_of_picture/bias": np.zeros(9, np.float32)}
    before = model.get_layer("classes_of_picture").get_weights()
    assert list(fit(model, arrays, source="").anew) == ["classes_of_picture"]
    for old, new in zip(before, model.get_layer("classes_of_picture").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_last_layer_that_is_missing_does_not_begin_anew_by_itself(model):
    arrays = {name: array for name, array in arrays_of(model).items() if "classes" not in name}
    assert "the model's without a counterpart: classes_of_picture/kernel" in told(model, arrays)


def test_other_layers_of_another_shape_do_not_begin_anew():
    message = told(model_of(units=6), arrays_of(model_of(units=4)))
    assert "backbone_first/kernel ((2, 4) there, (2, 6) here)" in message


def test_a_part(model):
    arrays = arrays_of(model)
    backbone = {name: array for name, array in arrays.items() if name.startswith("backbone_")}
    rest = {name: np.array(of) for name, of in variables_by_name(model).items() if name not in backbone}
    others = {"neck/kernel": np.zeros(1), "fc/bias": np.zeros(2)}  # do not fit, and need not
    fitted = fit(model, backbone | others, source="a.pth", part="backbone_")
    assert_holds(model, backbone | rest)
    left, unasked = ("neck/kernel", "fc/bias"), ("neck", "classes_of_picture")
    assert fitted == Fitted("a.pth", ("backbone_first", "backbone_bn"), {}, left, unasked)
    assert str(fitted).splitlines()[1:] == [
        "2 layers begin anew, not asked for: neck, classes_of_picture.",
        "2 weights of it had no place here or were not asked for.",
    ]


def test_a_part_is_accounted_for(model):
    backbone = {name: of for name, of in arrays_of(model).items() if name.startswith("backbone_")}
    missing = {name: array for name, array in backbone.items() if name != "backbone_bn/beta"}
    message = told(model, missing | {"backbone_extra/kernel": np.zeros(1)}, part="backbone_")
    assert "the model's without a counterpart: backbone_bn/beta;" in message
    assert "the file's without a counterpart: backbone_extra/kernel." in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": ["backbone_*"]}, ("backbone_first", "backbone_bn")),
        ({"include": ["backbone_*", "neck"]}, ("backbone_first", "backbone_bn", "neck")),
        ({"skip": ["classes_of_picture"]}, ("backbone_first", "backbone_bn", "neck")),
        ({"skip": ["backbone_?n", "n*"]}, ("backbone_first", "classes_of_picture")),
        ({"include": ["*n*"], "skip": ["neck"]}, ("backbone_first", "backbone_bn")),
        ({"part": "backbone_", "skip": ["*_bn"]}, ("backbone_first",)),
    ],
)
def test_patterns(model, options, expected):
    arrays = arrays_of(model)
    before = {name: np.array(of) for name, of in variables_by_name(model).items()}
    fitted = fit(model, arrays, source="", **options)
    taken = {name for name in arrays if name.rpartition("/")[0] in expected}
    assert_holds(model, {name: (arrays if name in taken else before)[name] for name in arrays})
    assert fitted.layers == expected
    assert set(fitted.left) == set(arrays) - taken


@pytest.mark.parametrize("option", ["include", "skip"])
def test_an_unknown_pattern(model, option):
    message = told(model, arrays_of(model), **{option: ["neck", "nack*"]})
    assert message == (
        f'{option}="nack*": fits no layer of toy that has weights, and none of a.pth; they are called '
        "backbone_first, backbone_bn, neck, classes_of_picture."
    )


def test_patterns_are_told_capitals_apart(model):
    assert 'include="Neck": fits no layer' in told(model, arrays_of(model), include=["Neck"])


def test_what_the_source_has_more_can_be_skipped(model):
    arrays = arrays_of(model)
    fitted = fit(model, arrays | {"extra/kernel": np.zeros(3)}, source="", skip=["extra"])
    assert_holds(model, arrays)
    assert fitted.left == ("extra/kernel",)


def test_when_nothing_is_asked_for(model):
    assert "no layer was asked for" in told(model, arrays_of(model), skip=["*"])
    assert "no layer was asked for" in told(model, arrays_of(model), part="encoder_")


def test_when_the_two_have_nothing_in_common(model):
    message = told(model, {})
    assert "the model's without a counterpart: backbone_first/kernel" in message and "file's" not in message


def test_what_depends_on_the_classes_is_in_the_list():
    """In all builders just the listed layers have other shapes when there are other classes, or slots."""

    def shapes(name, number):
        small = {"input_shape": (128, 128, 3), "backbone": "compact"}
        small |= {"num_classes": number, "max_objects": number}
        options = {option: value for option, value in small.items() if option in kzoo.info(name).options}
        return {key: of.shape for key, of in variables_by_name(kzoo.build(name, **options)).items()}

    found = set()
    for name in kzoo.list_models():
        two, three = shapes(name, 2), shapes(name, 3)
        assert list(two) == list(three)
        found |= {key.rpartition("/")[0] for key in two if two[key] != three[key]}
    assert found == set(CLASS_LAYERS)


@pytest.mark.parametrize("name", kzoo.list_models())
def test_every_weight_of_the_zoos_models_has_a_name_of_its_own(name):
    model = kzoo.build(name, num_classes=2, input_shape=(128, 128, 3))
    assert len(variables_by_name(model)) == len(model.weights)
