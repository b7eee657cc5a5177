import importlib
import subprocess
import sys
import textwrap

import pytest

import kzoo
from kzoo import registry
from kzoo.registry import REQUIRED, Entry, read_entries
from kzoo.tasks import TASKS

TOY = '''
    import sys

    from kzoo.registry import register

    class Model:
        pass

    @register("toy", task="detection", paper="Nobody 2020, https://example.org")
    def toy(*, num_classes: int, backbone: str = "small", sizes: tuple[float, ...] = (1.5, -2), weights=None):
        """A toy: nothing in it.

        More about it.
        """
        model = Model()
        model.backbone = backbone
        return model
'''
TOY_ENTRY = Entry(
    name="toy",
    task="detection",
    paper="Nobody 2020, https://example.org",
    summary="A toy: nothing in it.",
    options={"num_classes": REQUIRED, "backbone": "small", "sizes": (1.5, -2), "weights": None},
    module="kzoo.models.toy_of_the_tests",
    function="toy",
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """What a test registers is forgotten after it, not so the zoo's own models: their files run only once."""
    for name in kzoo.list_models():
        importlib.import_module(kzoo.info(name).module)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.fixture
def add_file(tmp_path, monkeypatch):
    """Adds a file to kzoo.models, for as long as the test runs."""
    monkeypatch.setattr(kzoo.models, "__path__", [*kzoo.models.__path__, str(tmp_path)])
    modules = []

    def add(stem, source):
        modules.append(f"kzoo.models.{stem}")
        path = tmp_path / f"{stem}.py"
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return path

    yield add
    for module in modules:
        sys.modules.pop(module, None)
        vars(kzoo.models).pop(module.rpartition(".")[2], None)


def register_plain(name="plain", task="segmentation"):
    @kzoo.register(name, task=task, paper="Somebody 2021")
    def builder(*, depth: int = 3):
        return type("Model", (), {})()

    return builder


def test_new_file_is_listed_and_told_without_being_run(add_file):
    add_file("toy_of_the_tests", TOY)
    assert "toy" in kzoo.list_models()
    assert "toy" in kzoo.list_models("detection")
    assert "toy" not in kzoo.list_models("segmentation")
    assert kzoo.info("toy") == TOY_ENTRY
    assert "kzoo.models.toy_of_the_tests" not in sys.modules


def test_build_imports_the_file_and_notes_how(add_file):
    add_file("toy_of_the_tests", TOY)
    model = kzoo.build("toy", num_classes=4, backbone="large")
    assert model.backbone == "large"
    assert model.zoo_name == "toy"
    assert model.zoo_options == {
        "num_classes": 4,
        "backbone": "large",
        "sizes": (1.5, -2),
        "weights": None,
    }


def test_record_read_equals_record_registered(add_file):
    path = add_file("toy_of_the_tests", TOY)
    [read] = read_entries(path, "kzoo.models.toy_of_the_tests")
    importlib.import_module("kzoo.models.toy_of_the_tests")
    assert read == registry._registered["toy"][0] == TOY_ENTRY


@pytest.mark.parametrize("name", kzoo.list_models())
def test_every_model_file_registers_what_was_read_from_it(name):
    read = kzoo.info(name)
    importlib.import_module(read.module)
    assert registry._registered[name][0] == read
    assert read.summary, f"{read.module}.{read.function} has no docstring"


def test_wrong_option_is_told_before_the_import(add_file):
    add_file("toy_of_the_tests", TOY)
    with pytest.raises(
        ValueError, match=r'toy: option="num_clases": unknown. Nearest: "num_classes". Known: "num'
    ):
        kzoo.build("toy", num_clases=3)
    with pytest.raises(ValueError, match=r'toy: needs num_classes=...: build\("toy", num_classes=...\)'):
        kzoo.build("toy", backbone="small")
    assert "kzoo.models.toy_of_the_tests" not in sys.modules


def test_unknown_name(add_file):
    add_file("toy_of_the_tests", TOY)
    for ask in (kzoo.build, kzoo.info):
        with pytest.raises(ValueError, match='model="toi": unknown. Nearest: "toy".* Known: '):
            ask("toi")


def test_unknown_task():
    with pytest.raises(
        ValueError, match='task="detect": unknown. Nearest: "detection". Known: "classification"'
    ):
        kzoo.list_models("detect")
    with pytest.raises(ValueError, match='task="detect": unknown'):
        register_plain(task="detect")
    assert "plain" not in kzoo.list_models()


@pytest.mark.parametrize("task", TASKS)
def test_registered_at_run_time(task):
    builder = register_plain(task=task)
    assert "plain" in kzoo.list_models(task)
    assert kzoo.info("plain").options == {"depth": 3}
    assert kzoo.build("plain", depth=5).zoo_options == {"depth": 5}
    assert builder.__name__ == "builder"  # the decorator returns the function itself


def test_pretrained_models_are_those_with_weights_of_the_whole(add_file):
    add_file("toy_of_the_tests", TOY)
    assert kzoo.list_models(pretrained=True) == ["classifier", "faster_rcnn", "mask_rcnn", "retinanet"]
    assert kzoo.list_models("detection", pretrained=True) == ["faster_rcnn", "retinanet"]
    assert kzoo.list_models("segmentation", pretrained=True) == []
    assert {"unet", "box_regressor", "toy"} <= set(kzoo.list_models())


def test_checkpoints_of_the_whole_come_before_those_of_the_backbone(add_file):
    add_file("toy_of_the_tests", TOY)
    register_plain()
    told = {
        name: [(one.model, one.name, one.backbone) for one in kzoo.info(name).checkpoints]
        for name in ("mask_rcnn", "classifier", "toy", "plain")
    }
    assert told["mask_rcnn"][:2] == [("mask_rcnn", f"coco:v{n}", "resnet50") for n in (1, 2)]
    assert told["mask_rcnn"][2:] == told["classifier"] == told["toy"]
    assert ("classifier", "imagenet:v1", "resnet18") in told["classifier"]
    assert len(set(told["classifier"])) == len(told["classifier"])
    assert told["plain"] == []


def test_published_weights_and_their_licences_are_shown():
    entry = kzoo.info("mask_rcnn")
    lines = str(entry).splitlines()
    for title, checkpoints in (
        ("weights", entry.checkpoints[:2]),
        ("weights of the backbone", entry.checkpoints[2:]),
    ):
        start = lines.index(title) + 1
        shown = lines[start : lines.index("", start)]
        assert [line.strip() for line in shown[1::3]] == [one.url for one in checkpoints]
        for line, one in zip(shown[2::3], checkpoints, strict=True):
            assert one.source in line and one.recipe in line
        assert sum("the default" in line for line in shown) == len({one.backbone for one in checkpoints})
        for line, one in zip(shown[::3], checkpoints, strict=True):
            assert {one.name, one.backbone, f"{one.digest}..."} <= set(line.replace(",", "").split())
            assert all(f"{value:.3f}" in line for value in one.figures.values())
    assert {one.evaluated_on for one in entry.checkpoints} <= set(lines[-1].replace(",", "").split())
    for title, told in (("licence of weights", "licence"), ("terms of their data", "data_terms")):
        start = lines.index(title) + 1
        texts = {getattr(one, told) for one in entry.checkpoints}
        assert {line.strip() for line in lines[start : start + len(texts)]} == texts
    assert "weights of the backbone" not in str(kzoo.info("classifier"))
    assert "weights" not in str(kzoo.info("spatial_transformer"))


def test_list_is_sorted():
    register_plain("zzz")
    register_plain("aaa")
    assert kzoo.list_models() == sorted(kzoo.list_models())
    assert {"aaa", "zzz"} <= set(kzoo.list_models())


def test_two_builders_of_one_name(add_file):
    register_plain()
    with pytest.raises(ValueError, match='model="plain": .* has it'):
        register_plain()


def test_a_name_of_a_file_is_taken_before_the_file_is_run(add_file):
    add_file("toy_of_the_tests", TOY)
    with pytest.raises(ValueError, match=r'model="toy": .* kzoo.models.toy_of_the_tests.toy has it'):
        register_plain("toy")


def test_two_files_of_one_name(add_file):
    add_file("toy_of_the_tests", TOY)
    add_file("toy_again_of_the_tests", TOY)
    with pytest.raises(ValueError, match='model="toy": .* has it'):
        kzoo.list_models()


def test_a_cell_that_runs_again_replaces_its_builder():
    for default in (1, 2):
        source = f"@kzoo.register('cell', task='detection', paper='')\ndef cell(*, depth={default}): ..."
        exec(source, {"kzoo": kzoo, "__name__": "__main__"})
    assert kzoo.info("cell").options == {"depth": 2}


@pytest.mark.parametrize("parameters", ["num_classes", "num_classes, /", "*sizes", "*, depth=1, **options"])
def test_builder_takes_only_keyword_options(parameters, tmp_path):
    source = f"@register('bad', task='detection', paper='')\ndef bad({parameters}): ..."
    with pytest.raises(ValueError, match=r"parameter '.*' is .*def bad\(\*, \.\.\.\)"):
        exec(source, {"register": kzoo.register, "__name__": "bad"})
    path = tmp_path / "bad.py"
    path.write_text(source)
    with pytest.raises(ValueError, match=r"bad\.py:1: bad: parameter '.*' is .*def bad\(\*, \.\.\.\)"):
        read_entries(path, "bad")


@pytest.mark.parametrize(
    "source",
    [
        "@register(NAME, task='detection', paper='')\ndef bad(*, depth=1): ...",
        "@register('bad', task='detection', paper='')\ndef bad(*, depth=DEPTH): ...",
        "@register('bad', task='detection')\ndef bad(*, depth=1): ...",
        "@register('bad', task='detect', paper='')\ndef bad(*, depth=1): ...",
    ],
    ids=["name is no literal", "default is no literal", "no paper", "unknown task"],
)
def test_what_cannot_be_read_says_where(source, tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(f"\n\n{source}")
    with pytest.raises(ValueError, match=r"bad\.py:3: "):
        read_entries(path, "bad")


def test_other_decorators_and_functions_are_passed_over(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text(
        "import kzoo\n@keras.saving.register_keras_serializable()\nclass Layer: ...\n"
        "@cache\ndef part(x): ...\n"
        "@cache\n@kzoo.register('plain', task='detection', paper='p')\ndef plain(): ...\n"
    )
    [entry] = read_entries(path, "plain")
    assert (entry.name, entry.options, entry.summary) == ("plain", {}, "")


def test_entry_reads_well(add_file):
    add_file("toy_of_the_tests", TOY)
    expected = """
        toy: A toy: nothing in it.

        task     detection
        paper    Nobody 2020, https://example.org
        builder  kzoo.models.toy_of_the_tests.toy

        options
          num_classes  (required)
          backbone     'small'
          sizes        (1.5, -2)
          weights      None"""
    told, _, weights = str(kzoo.info("toy")).partition("\n\nweights of the backbone\n")
    assert told == textwrap.dedent(expected).strip()
    assert "imagenet:v1  resnet18" in weights


@pytest.mark.parametrize("pretrained", ["coco", 1, None])
def test_pretrained_is_yes_or_no(pretrained):
    with pytest.raises(ValueError, match=f"pretrained={pretrained!r}: True or False is expected"):
        kzoo.list_models(pretrained=pretrained)


def test_the_package_is_the_command(capsys):
    done = subprocess.run([sys.executable, "-m", "kzoo", "list"], capture_output=True, text=True)
    assert done.returncode == 0 and "retinanet" in done.stdout
