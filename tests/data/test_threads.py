import threading
import time

import pytest

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


def test_short_work_is_not_shared_out():
    names = set()

    def short(item):
        names.add(threading.current_thread().name)
        return sum(range(100)) + item

    assert in_threads(short, range(200)) == [4950 + item for item in range(200)]
    assert names == {threading.current_thread().name}
