"""Published files, brought into the cache: checked, resumed when broken, and whole or not at all.

Environment variables:
- `KZOO_HOME`: the cache's folder (`kzoo.weights.cache`).
- `KZOO_MIRROR`: a folder that is asked in place of the host that published the file, by the file's name:
  an https://, http:// or file:// address, or a path such as ~/.cache/torch/hub/checkpoints.
- `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`: as everywhere.
"""

import errno
import hashlib
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener
from urllib.response import addinfourl

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from kzoo.checks import check_integer
from kzoo.weights.cache import cache_directory
from kzoo.weights.errors import WeightsError
from kzoo.weights.lock import locked

TIMEOUT = 30.0  # seconds without a byte
TRIES = 5  # without one new byte between them
PAUSE = 1.0  # seconds before the second try, and twice as long before each further one
CHUNK = 2**18  # bytes

Answer = HTTPResponse | addinfourl  # the latter of file://, and as HTTPError of a refusal


def fetch(url: str, sha256: str, *, name: str | None = None, most_bytes: int | None = None) -> Path:
    """Brings a published file into the cache, if it is not there yet.

    The file's digest is computed at every call (0.12 s for 170 MB): a damaged file is not handed out, and one
    that was put there by hand is as good as one that was fetched. What a broken connection leaves stays
    beside the file as NAME.part, and the next try goes on from there, in this process or another. Any number
    of processes may ask for the same file: one fetches, the others wait.

    ```python
    fetch("https://download.pytorch.org/models/resnet50-11ad3fa6.pth", "11ad3fa6")
    # PosixPath('/home/ada/.cache/kzoo/weights/resnet50-11ad3fa6.pth')
    ```

    Args:
        url: an https://, http:// or file:// address. What comes by http:// may be from anybody: give all
            digits of its digest. A redirection from https:// to anything else is refused.
        sha256: the file's SHA-256 in hexadecimal, all 64 digits or the first eight or more. Eight guard
            against damage and mistakes, not against an attacker, who finds another file of the same eight.
        name: the file's name in the cache and on a mirror; the address's last part by default.
        most_bytes: that the file may have; fetching stops beyond them. None is as many as the disk takes.

    Returns:
        The file's path, in `cache_directory() / "weights"`.

    Raises:
        ValueError: the address, the digest, the name or the number of bytes is none.
        WeightsError: the file cannot be had or kept, it has too many bytes, or it is another than the digest
            says.
    """
    _check_scheme("url", url)
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-fA-F]{8,64}", sha256):
        raise ValueError(
            f"sha256={sha256!r}: 8 to 64 hexadecimal digits are expected; {url} is checked by them."
        )
    if most_bytes is not None:
        check_integer("most_bytes", most_bytes, least=1)
    name = _file_name(url, name)
    address = _address(url, name)
    path = cache_directory() / "weights" / name
    sha256 = sha256.lower()
    try:
        if path.exists() and _digest(path).startswith(sha256):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{name}.lock"), lambda: _tell_waiting(path)):
            if not path.exists():
                _bring(address, path, sha256, url, most_bytes)
            elif not (digest := _digest(path)).startswith(sha256):
                told = f"{path} is damaged or another file: its sha256 is {digest}, not {sha256}"
                try:
                    _bring(address, path, sha256, url, most_bytes)
                except WeightsError as fault:
                    raise WeightsError(f"{told}; and {fault}") from fault
                warnings.warn(f"{told}. It was fetched anew.", stacklevel=2)
    except OSError as fault:  # of the cache: those of the network are WeightsErrors already
        raise WeightsError(
            f"{path} cannot be written or read: {fault.strerror or fault}. "
            "KZOO_HOME names another folder for the cache."
        ) from fault
    return path


def _check_scheme(argument: str, address: str) -> None:
    if not isinstance(address, str) or urlsplit(address).scheme not in ("https", "http", "file"):
        raise ValueError(f"{argument}={address!r}: an https://, http:// or file:// address is expected.")


def _file_name(url: str, name: str | None) -> str:
    """The file's name in the cache: never a way out of it."""
    argument, value = ("url", url) if name is None else ("name", name)
    if name is None:
        name = unquote(urlsplit(url).path.rpartition("/")[2])
    if not name.strip(". ") or re.search(r'[\x00-\x1f/\\:*?"<>|]', name):  # what some platform refuses, too
        raise ValueError(f"{argument}={value!r}: a plain file name is expected, but it is {name!r}.")
    return name


def _address(url: str, name: str) -> str:
    """Where the file is asked for: on the mirror if one is set, else where it was published."""
    if mirror := os.environ.get("KZOO_MIRROR"):
        if "://" not in mirror:
            mirror = Path(os.path.expanduser(mirror)).absolute().as_uri()
        _check_scheme("KZOO_MIRROR", mirror)
        url = f"{mirror.rstrip('/')}/{quote(name)}"
    return quote(url, safe="/:?#[]@!$&'()*+,;=%~")  # spaces and letters beyond ASCII, which urllib refuses


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tell_waiting(path: Path) -> None:
    print(f"kzoo: waiting for another process that fetches {path}", file=sys.stderr)


def _bring(address: str, path: Path, sha256: str, url: str, most_bytes: int | None) -> None:
    """Fetches a file to `path`, which it reaches whole and checked, or not at all. One process at a time."""
    part = path.with_name(f"{path.name}.part")
    origin = (
        f"{address} (KZOO_MIRROR is set; published at {url})" if os.environ.get("KZOO_MIRROR") else address
    )
    digits = sha256 if len(sha256) == 64 else f"{sha256}..."
    try:
        resumed = _download(address, part, most_bytes)
        digest = _digest(part)
        if resumed and not digest.startswith(sha256):  # the older bytes may be another file's
            part.unlink()
            _download(address, part, most_bytes)
            digest = _digest(part)
    except _Unreachable as fault:
        raise WeightsError(
            f"cannot fetch {origin}: {fault}; by hand, put the file with the sha256 {digits} at {path}"
        ) from fault.__cause__
    if not digest.startswith(sha256):
        size = part.stat().st_size
        part.unlink()
        raise WeightsError(
            f"{origin} brought another file than expected, {size:,} bytes, and it was thrown away: "
            f"its sha256 is {digest} instead of {digits}"
        )
    os.replace(part, path)


class _Unreachable(Exception):
    """The file cannot be had from its address."""


class _TooLong(_Unreachable):
    """There are more bytes at the address than the file may have."""


class _Interrupted(Exception):
    """The connection broke; another try may go on."""


def _download(address: str, part: Path, most_bytes: int | None) -> bool:
    """Fetches until the file is whole, going on from what is there; whether earlier bytes were kept."""
    validator, answered, failures = None, False, 0
    have = furthest = part.stat().st_size if part.exists() else 0
    with _progress_bar(part.stem) as show:
        while True:
            try:
                with _ask(address, have, validator) as answer:
                    answered = True
                    if answer.status == 416 and have:  # there is nothing behind what we have
                        return True
                    start, total = _span(answer)
                    if start not in (0, have):
                        part.unlink(missing_ok=True)  # it cannot be asked for the rest: anew
                        raise _Interrupted(f"asked for the bytes from {have:,} on, it answers with others")
                    tag = answer.headers.get("ETag") or ""
                    validator = tag if tag.startswith('"') else None  # If-Range takes no weak one
                    if most_bytes is not None and total is not None and total > most_bytes:
                        raise _TooLong(f"it has {total:,} bytes, and {most_bytes:,} at most are expected")
                    _receive(answer, part, start, total, most_bytes, show)
                    return start > 0
            except _TooLong:
                part.unlink(missing_ok=True)
                raise
            except _Interrupted as fault:
                have = part.stat().st_size if part.exists() else 0
                failures = 1 if have > furthest else failures + 1
                furthest = max(furthest, have)
                # A host that never answered is not asked again: there is no network, or no such host.
                if not answered or failures >= TRIES:
                    kept = f"; the next try goes on after the {have:,} bytes that are kept" if have else ""
                    raise _Unreachable(f"{fault}{kept}") from fault.__cause__
            time.sleep(PAUSE * 2 ** (failures - 1))


class _StaysEncrypted(HTTPRedirectHandler):
    def redirect_request(self, request, answer, status, reason, headers, address):
        # By the whole address: a proxy changes what kind a request is of.
        if urlsplit(request.full_url).scheme == "https" and urlsplit(address).scheme != "https":
            raise _Unreachable(f"it sends on to {address}, which is not encrypted")
        return super().redirect_request(request, answer, status, reason, headers, address)


def _ask(address: str, have: int, validator: str | None) -> Answer:
    """The answer to one request, whatever its status, for the bytes behind the first `have`."""
    request = Request(address, headers={"User-Agent": "kzoo"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if validator:
            request.add_header("If-Range", validator)
    try:
        return build_opener(_StaysEncrypted).open(request, timeout=TIMEOUT)
    except HTTPError as answer:
        return answer
    except (OSError, HTTPException, UnicodeError) as fault:  # the last of a host's name
        raise _Interrupted(_reason(fault)) from fault


def _reason(fault: Exception) -> str:
    fault = getattr(fault, "reason", fault)  # an URLError wraps what happened
    return getattr(fault, "strerror", None) or str(fault) or type(fault).__name__


def _span(answer: Answer) -> tuple[int, int | None]:
    """Where in the file an answer's bytes begin, and how many bytes the file has, if that is told."""
    if answer.status == 206:
        place = re.match(r"bytes (\d+)-\d+/(\d*)", answer.headers.get("Content-Range", ""))
        start, total = place.groups() if place else (-1, "")
        return int(start), int(total) if total else None
    if answer.status in (None, 200):  # None: file://
        length = answer.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    lasting = answer.status < 500 and answer.status not in (408, 429)
    raise (_Unreachable if lasting else _Interrupted)(f"it answers {answer.status} {answer.reason}")


def _receive(
    answer: Answer,
    part: Path,
    start: int,
    total: int | None,
    most_bytes: int | None,
    show: Callable[[int, int | None], None],
) -> None:
    """Writes an answer's bytes behind the first `start` of `part`, up to `total`."""
    with part.open("ab") as file:
        file.truncate(start)
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - start > free:
            raise OSError(
                errno.ENOSPC, f"{total - start:,} bytes are needed, and {free:,} are free on the disk"
            )
        while total is None or start < total:
            if most_bytes is not None and start > most_bytes:
                raise _TooLong(f"it brings more than the {most_bytes:,} bytes that are expected at most")
            show(start, total)
            try:
                # As they come, so that all are kept when the connection breaks.
                data = answer.read1(CHUNK if total is None else min(CHUNK, total - start))
            except (OSError, HTTPException) as fault:
                raise _Interrupted(_reason(fault)) from fault
            if not data:
                break
            file.write(data)
            start += len(data)
        show(start, total)
    if total is not None and start < total:
        raise _Interrupted(f"the connection broke after {start:,} of {total:,} bytes")


@contextmanager
def _progress_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A function of the bytes that are there and of all (None: unknown), shown where stderr is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.file.isatty()) as progress:
        task = progress.add_task(name, total=None)
        yield lambda have, total: progress.update(task, completed=have, total=total)
