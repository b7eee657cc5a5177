"""One function of many files: threads wait for the disk."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

_THREADS = 8
_AT_ONCE = 32  # to hand a thread a single file takes as long as to read a small one


def in_threads(function: Callable, items: Sequence) -> list:
    """`function` of each of the items, in their order. Several threads call it."""
    parts = [items[start : start + _AT_ONCE] for start in range(0, len(items), _AT_ONCE)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            one for part in pool.map(lambda part: [function(item) for item in part], parts) for one in part
        ]
