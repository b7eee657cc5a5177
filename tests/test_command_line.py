import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.command_line import errors_told
from kzoo.data import DataError


def told(capsys, work):
    """The status and the message of work that failed."""
    with pytest.raises(SystemExit) as stop, errors_told("program", status=3):
        work()
    return stop.value.code, capsys.readouterr().err


def test_an_error_of_kzoos_own_is_one_message(capsys):
    status, message = told(capsys, lambda: kzoo.build("retinane"))
    assert status == 3
    assert message.startswith('program: model="retinane": unknown.') and message.count("\n") == 1


def test_an_error_of_files_is_one_message(capsys, tmp_path):
    status, message = told(capsys, (tmp_path / "none").read_bytes)
    assert (status, message.startswith("program: [Errno 2]")) == (3, True)


def test_a_fault_in_data_is_told_also_from_within_tensorflow(capsys):
    def broken(index):
        raise DataError(f"{index}.jpg: truncated; expected a whole picture file")

    data = tf.data.Dataset.range(1).map(lambda index: tf.numpy_function(broken, [index], tf.int64))
    status, message = told(capsys, lambda: list(data))
    assert (status, message) == (3, "program: 0.jpg: truncated; expected a whole picture file\n")


@pytest.mark.parametrize(
    "work",
    [lambda: keras.layers.Dense(-1), lambda: np.zeros(2) + np.zeros(3), lambda: {}["gone"], lambda: 1 / 0],
)
def test_a_fault_of_the_program_keeps_its_traceback(work):
    with pytest.raises((ValueError, KeyError, ZeroDivisionError)), errors_told("program"):
        work()


def test_ctrl_c_is_one_word(capsys):
    def stopped():
        raise KeyboardInterrupt

    status, message = told(capsys, stopped)
    assert (status, message) == (130, "\nprogram: stopped\n")


def test_nobody_reading_on_is_no_error():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = f"{sys.executable} -c 'from kzoo.cli import main; main()' list | true; echo ${{PIPESTATUS[0]}}"
    answer = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)
    assert (answer.stdout, answer.stderr) == ("0\n", "")


def test_names_that_steer_terminals_are_told_escaped(capsys):
    _, message = told(capsys, lambda: kzoo.data.info("voc:/no\x1b[2J\udcff"))
    assert r" /no\x1b[2J\udcff does not exist" in message
    assert "\x1b" not in message
