"""One function of many files: threads wait for the disk, unless there is nothing to wait for."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_THREADS = 8
_AT_ONCE = 32  # to hand a thread a single file takes as long as to read a small one
_SHORT = 1e-3  # seconds of work for a file, below which Python runs one thread at a time, and more are slower


def in_threads(function: Callable, items: Sequence) -> list:
    """`function` of each of the items, in their order; of several threads, if the first items took long."""
    first, rest = items[:_AT_ONCE], items[_AT_ONCE:]
    begin, worked = time.perf_counter(), time.thread_time()
    done = [function(item) for item in first]
    seconds, worked = time.perf_counter() - begin, time.thread_time() - worked
    if not rest:
        return done
    if worked > seconds / 2 and seconds < _SHORT * len(first):
        return done + [function(item) for item in rest]
    parts = [rest[start : start + _AT_ONCE] for start in range(0, len(rest), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(lambda part: [function(item) for item in part], parts):
            done += part
    return done
