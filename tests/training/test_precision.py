import keras
import pytest

from kzoo.training import precision


@pytest.fixture(autouse=True)
def policy_as_before():
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_what_is_asked_for_is_set(name):
    assert precision.set_precision(name) == name
    assert keras.layers.Dense(1).compute_dtype == name.removeprefix("mixed_")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("flags: fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("flags: fpu amx_bf16", "mixed_bfloat16"),
        ("flags: fpu avx2", "float32"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(flags, expected, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(precision, "PROCESSOR", tmp_path / "cpuinfo")
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [])
    assert precision.set_precision("auto") == expected


def test_auto_is_float32_where_the_processor_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "PROCESSOR", tmp_path / "none")
    monkeypatch.setattr(precision.tf.config, "list_physical_devices", lambda kind: [])
    assert precision.set_precision("auto") == "float32"


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [([(8, 0)], "mixed_bfloat16"), ([(8, 6), (7, 5)], "float32"), ([(7, 0)], "float32")],
)
def test_auto_asks_every_gpu(capabilities, expected, monkeypatch):
    config = precision.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: capabilities)
    monkeypatch.setattr(
        config.experimental, "get_device_details", lambda gpu: {"compute_capability": gpu}, raising=True
    )
    assert precision.set_precision("auto") == expected


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match='precision="bfloat16".*mixed_bfloat16'):
        precision.set_precision("bfloat16")
