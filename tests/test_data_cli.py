import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import kzoo.data
from kzoo.cli import main
from kzoo.data.checking import check


def run(capsys, *arguments):
    """The exit status, and what went to stdout and to stderr."""
    try:
        main(("data", *arguments))
        status = 0
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def cells(tmp_path):
    """24 pictures of two classes."""
    for number in range(24):
        path = tmp_path / "cells" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "cells"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help(capsys, arguments):
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    assert "usage: kzoo data" in out
    for command in ("info", "check"):
        assert f"• {command}" in out


def test_the_group_is_in_the_help_of_kzoo(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "• data" in capsys.readouterr().out


def test_wrong_command_is_one_line_and_exit_2(capsys):
    status, out, err = run(capsys, "chek", "shapes")
    assert (status, out) == (2, "")
    assert err.startswith('kzoo data: command="chek": unknown. Nearest: "check". Known: "info", "check"')
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("check",), ("check", "shapes", "more"), ("check", "shapes", "--jsn"), ("info",)]
)
def test_wrong_command_line_is_exit_2(capsys, arguments):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert f"kzoo data {arguments[0]}" in err or "kzoo data --help" in err


def test_wrong_task_is_exit_2(capsys):
    status, out, err = run(capsys, "check", "shapes", "--task", "detect")
    assert (status, out) == (2, "")
    assert err.startswith('kzoo data: task="detect": unknown. Nearest: "detection"')
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [(("--max-pixels", "0"), "max_pixels=0: "), (("--classes", "a", "a"), "repeats 'a'")],
)
def test_wrong_options_are_exit_2(capsys, option, message):
    status, out, err = run(capsys, "check", "shapes", *option)
    assert (status, out) == (2, "")
    assert message in err


def test_classes_and_max_pixels_are_handed_on(capsys, cells):
    status, out, _ = run(
        capsys, "check", f"folder:{cells}", "--json", "--classes", "dog", "cat", "cow", "--max-pixels", "599"
    )
    found = json.loads(out)
    assert status == 1
    assert found["classes"] == ["dog", "cat", "cow"]
    assert {fault["kind"] for fault in found["faults"]} >= {"too_large"}


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_names_that_are_no_text_or_steer_terminals_are_told_escaped(capsys, cells):
    for name in (b"\xff.png", b"\x1b[2J.png"):
        with open(os.path.join(os.fsencode(cells), b"cat", name), "wb") as file:
            file.write(b"none")
    (cells / "c\x1b[2J").mkdir()
    (cells / "cat/0.png").rename(cells / "c\x1b[2J/0.png")
    status, out, err = run(capsys, "check", f"folder:{cells}")
    assert (status, err) == (1, "")
    assert r"cat/\udcff.png: not a picture" in out
    assert r"cat/\x1b[2J.png: not a picture" in out
    assert "\x1b" not in out
    status, out, _ = run(capsys, "info", f"folder:{cells}")
    assert (status, r"c\x1b[2J" in out, "\x1b" in out) == (0, True, False)


def test_info(capsys):
    status, out, err = run(capsys, "info", "shapes")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "shapes",
        "splits     train (2,000), val (200), test (200)",
        f"tasks      {', '.join(kzoo.data.info('shapes').tasks)}",
        "5 classes  circle, square, triangle, star, ring",
    ]


@pytest.mark.parametrize("command", ["info", "check"])
def test_no_such_data_is_one_line_and_exit_1(capsys, command):
    status, out, err = run(capsys, command, "voc:/no/such")
    assert (status, out) == (1, "")
    assert err.startswith("kzoo data: 'voc:/no/such': /no/such does not exist; expected a directory in")
    assert err.count("\n") == 1


def test_check_of_faultless_data_is_exit_0(capsys, cells):
    status, out, err = run(capsys, "check", f"folder:{cells}")
    assert (status, err) == (0, "")
    assert out == check(f"folder:{cells}").as_text() + "\n"
    assert "No faults." in out


def test_a_fault_is_exit_1_with_its_file(capsys, cells):
    (cells / "cat/4.png").write_text("none")
    status, out, err = run(capsys, "check", f"folder:{cells}")
    assert (status, err) == (1, "")
    assert str(cells / "cat/4.png") in out
    assert "1 fault\n" in out


def test_json_is_all_of_stdout_and_says_the_same(capsys, cells):
    (cells / "cat/4.png").write_text("none")
    status, out, err = run(capsys, "check", f"folder:{cells}", "--json")
    assert (status, err) == (1, "")
    found = json.loads(out)
    assert found == json.loads(json.dumps(check(f"folder:{cells}").as_json()))
    assert found["all"]["pictures"] == 23
    [fault] = found["faults"]
    assert (fault["kind"], fault["picture"]) == ("unreadable", str(cells / "cat/4.png"))


def test_pictures_of_what_there_is(capsys, cells, tmp_path):
    run(capsys, "check", f"folder:{cells}", "--output", str(tmp_path / "new/out"))
    for name in ("distributions.png", "gallery.png"):
        with Image.open(tmp_path / "new/out" / name) as picture:
            assert min(picture.size) > 100


def test_no_pictures_of_nothing(capsys, cells, tmp_path):
    for path in cells.rglob("*.png"):
        path.write_text("none")
    status, _, err = run(capsys, "check", f"folder:{cells}", "--output", str(tmp_path / "out"))
    assert status == 1
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_output(capsys, cells, tmp_path):
    (tmp_path / "out").write_text("mine")
    status, out, err = run(capsys, "check", f"folder:{cells}", "--output", str(tmp_path / "out"))
    assert (status, out) == (1, "")
    assert err.startswith("kzoo data: output=")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
def test_ctrl_c_ends_in_one_line():
    program = (
        "import os, signal\n"
        # Who runs the tests in the background may have it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from kzoo.cli import main\n"
        "import kzoo.data.checking.checking\n"
        "look = kzoo.data.checking.checking._look\n"
        "def stopped(*arguments):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return look(*arguments)\n"
        "kzoo.data.checking.checking._look = stopped\n"
        "main(['data', 'check', 'shapes', '--task', 'classification'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr.strip() == "kzoo data: stopped"


def test_neither_command_imports_tensorflow(cells):
    program = (
        "import sys\nfrom kzoo.cli import main\n"
        f"main(['data', 'info', 'folder:{cells}'])\nmain(['data', 'check', 'folder:{cells}'])\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=120)
