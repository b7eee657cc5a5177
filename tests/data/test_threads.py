import threading
import time

import pytest

from kzoo.data import threads
from kzoo.data.threads import in_threads


def test_answers_are_in_the_order_of_the_items():
    names = set()

    def slow(item):
        names.add(threading.current_thread().name)
        time.sleep(0.001 * (item % 3))
        return -item

    assert in_threads(slow, range(100)) == [-item for item in range(100)]
    assert len(names) > 1
    assert in_threads(slow, []) == []


def test_an_error_is_the_caller_s():
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda item: 1 // item, [1, 0])


class Clock:
    """A stand-in for `time`: as many seconds have passed, and been worked, as `spend` was told."""

    def __init__(self):
        self.passed = self.worked = 0.0

    def spend(self, passed, worked):
        self.passed += passed
        self.worked += worked

    def perf_counter(self):
        return self.passed

    def thread_time(self):
        return self.worked


@pytest.mark.parametrize(
    ("passed", "worked", "shared"),
    [(1e-4, 1e-4, False), (1e-2, 1e-2, True), (1e-4, 1e-6, True)],
    ids=["short work", "long work", "waiting"],
)
def test_short_work_is_not_shared_out(monkeypatch, passed, worked, shared):
    clock, names = Clock(), set()
    monkeypatch.setattr(threads, "time", clock)

    def file(item):
        names.add(threading.current_thread().name)
        clock.spend(passed, worked)
        return -item

    assert in_threads(file, range(200)) == [-item for item in range(200)]
    assert (names != {threading.current_thread().name}) == shared


def test_of_long_work_few_items_are_waited_for(monkeypatch):
    clock, names = Clock(), []
    monkeypatch.setattr(threads, "time", clock)

    def file(item):
        names.append(threading.current_thread().name)
        clock.spend(0.1, 0.1)
        return -item

    assert in_threads(file, range(20)) == [-item for item in range(20)]
    assert names.count(threading.current_thread().name) == 2
