"""One function of many files: threads wait for the disk, unless there is nothing to wait for."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_THREADS = 8
_AT_ONCE = 32  # to hand a thread a single file takes as long as to read a small one
_SHORT = 1e-3  # seconds of work for a file, below which Python runs one thread at a time, and more are slower


def in_threads(function: Callable, items: Sequence) -> list:
    """`function` of each of the items, in their order; of several threads, if the first items took long."""
    done = [function(item) for item in items[:1]]  # it may take longer: what it needs is imported, too
    begin, worked, seconds = time.perf_counter(), time.thread_time(), 0.0
    for item in items[1:_AT_ONCE]:
        done.append(function(item))
        seconds = time.perf_counter() - begin
        if seconds >= _SHORT * _AT_ONCE:  # of long work a few tell enough
            break
    worked = time.thread_time() - worked
    at_once, rest = len(done), items[len(done) :]
    if not rest:
        return done
    if worked > seconds / 2 and seconds < _SHORT * at_once:
        return done + [function(item) for item in rest]
    parts = [rest[start : start + at_once] for start in range(0, len(rest), at_once)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in pool.map(lambda part: [function(item) for item in part], parts):
            done += part
    return done
