import contextlib
import os
import signal
import threading

import pytest

from kzoo.training.interrupts import STOPPING, Requests


@pytest.fixture(autouse=True)
def handlers_as_before():
    before = {one: signal.getsignal(one) for one in STOPPING}
    yield
    after = {one: signal.getsignal(one) for one in STOPPING}
    for one, handler in before.items():
        signal.signal(one, handler)
    assert after == before


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_is_noted_and_told(number, capfd):
    requests = Requests()
    with requests.listening():
        assert requests.signal is None
        send(number)
        assert requests.signal == number
        assert f"{number.name}: stops once this step" in capfd.readouterr().err


def test_a_second_one_does_what_it_does_elsewhere():
    requests = Requests()
    with pytest.raises(KeyboardInterrupt), requests.listening():
        send(signal.SIGTERM)
        send(signal.SIGINT)
    assert requests.signal == signal.SIGTERM


def test_what_was_ignored_stays_so(capfd):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what runs in the background
    requests = Requests()
    with requests.listening():
        send(signal.SIGINT)
        assert requests.signal is None
        send(signal.SIGTERM)
        assert requests.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_it_is_noted_also_where_nobody_reads_what_is_told():
    reader, writer = os.pipe()
    kept = os.dup(2)
    requests = Requests()
    os.close(reader)  # Ctrl-C ended it as well, as in `recipe 2>&1 | tee log`
    os.dup2(writer, 2)
    try:
        with requests.listening():
            send(signal.SIGINT)
    finally:
        os.dup2(kept, 2)
        for one in (kept, writer):
            with contextlib.suppress(OSError):
                os.close(one)
    assert requests.signal == signal.SIGINT


def test_from_another_thread_nothing_is_changed():
    before, seen = [signal.getsignal(one) for one in STOPPING], []

    def listen():
        with Requests().listening():
            seen.extend(signal.getsignal(one) for one in STOPPING)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == before
