"""Finds the TFDS set behind `"tfds:..."`, and has TFDS download it where it is not there.

    tfds:NAME                        a set of TFDS's own, or one that was converted, in TFDS's usual directory
    tfds:NAME,data_dir=DIR           in another directory
    tfds:DIR                         with dataset_info.json and features.json, in DIR or in one set below it

NAME is as `tfds.load` takes it: `cifar10`, `coco/2017`, `voc/2007:5.0.0`.
"""

import contextlib
import re
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import tensorflow_datasets as tfds
from absl import logging

from kzoo.data.faults import DataError
from kzoo.data.paths import read_path
from kzoo.data.sources.source import check_name
from kzoo.data.sources.spec_options import read_options

_INFO = "dataset_info.json"
_DEPTH = 3  # folders between a directory of sets and this file: NAME/CONFIG/VERSION
_NAME = r"[a-zA-Z]\w*(/[\w.+-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?"


def open_builder(spec: str, where: str) -> tfds.core.DatasetBuilder:
    """The builder of a set, which need not be prepared.

    Args:
        spec: the text that messages call the set by.
        where: what stands behind the scheme: a name or a directory, and the options behind it.

    Raises:
        DataError: there is no such set.
    """
    if not where:
        raise DataError(f"{spec!r} lacks the set; expected 'tfds:NAME' or 'tfds:DIR', as in tfds:coco/2017")
    path, options = read_options(spec, where, ("data_dir",), "directory")
    name = where.partition(",")[0] if options else where
    folder = _prepared(spec, path) if not options and path.is_dir() else None
    with _quiet():
        if folder:
            return _from_directory(spec, folder)
        if not re.fullmatch(_NAME, name):
            found = f"no {_INFO} in {path} or below" if path.is_dir() else f"{path} does not exist"
            expected = "expected the directory of a prepared set, or a name such as coco/2017"
            raise DataError(f"{spec}: {found}; {expected}")
        return _from_name(spec, name, options.get("data_dir"))


def _prepared(spec: str, directory: Path) -> Path | None:
    """The folder of the one set that is in a directory or below."""
    patterns = ["/".join([*"*" * depth, _INFO]) for depth in range(_DEPTH + 1)]
    for found in (sorted(directory.glob(pattern)) for pattern in patterns):
        found = [path.parent for path in found if "incomplete." not in str(path.relative_to(directory))]
        if len(found) > 1:
            there = ", ".join(f"tfds:{path}" for path in found[:10])
            raise DataError(f"{spec}: there are {len(found)} sets below it; expected one, such as {there}")
        if found:
            return found[0]
    return None


def _from_directory(spec: str, folder: Path) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # of broken files, whatever reads them
        told = f"{type(error).__name__}: {_first_line(error)}"
        raise DataError(f"{spec}: {folder}: {told}; expected a set that TFDS prepared") from error


def _from_name(spec: str, name: str, directory: str | None) -> tfds.core.DatasetBuilder:
    where = str(read_path(spec, directory)) if directory else None
    try:
        return tfds.builder(name, data_dir=where)
    except tfds.core.DatasetNotFoundError:
        pass
    except Exception as error:  # a version or a configuration that there is not, or files that are broken
        told = " ".join(str(error).split())
        known = _configurations(name)
        _, _, configuration = name.partition(":")[0].partition("/")
        if configuration and known:
            check_name(spec, "configuration", configuration, known)
        raise DataError(f"{spec}: {told[:300]}; expected a name that tfds.load takes") from error
    there = f"{spec}, which is not in {where}" if where else spec
    sets = tfds.list_builders(with_community_datasets=False)
    try:
        check_name(there, "data set", re.split("[/:]", name)[0], sets)
    except DataError as error:
        told, _, _ = str(error).partition(" Known: ")  # they would fill pages
        raise DataError(f"{told} Known: the {len(sets)} of tfds.list_builders().") from None
    raise DataError(f"{there}: TFDS does not find it; expected a name that tfds.load takes")


def _configurations(name: str) -> list[str]:
    try:
        return list(tfds.builder_cls(re.split("[/:]", name)[0]).builder_configs)
    except ValueError:
        return []


def tell_absent(spec: str, builder: tfds.core.DatasetBuilder) -> None:
    """Tells of a set that is not there, and how it comes there."""
    with _quiet():
        if builder.is_prepared():
            return
    name, sets = builder.name, builder.data_dir.removesuffix(builder.info.full_name)
    name = f"{name}/{builder.builder_config.name}" if builder.builder_config else name
    told = f"it is not in {builder.data_dir} yet, so that its splits are not known"
    print(f"kzoo: {spec}: {told}; to fetch it: tfds build {name} --data_dir={sets}", file=sys.stderr)


def prepare(spec: str, builder: tfds.core.DatasetBuilder) -> None:
    """Has TFDS download and prepare a set that is not there, telling of it.

    Raises:
        DataError: that cannot be done. The message says what can.
    """
    with _quiet():
        if builder.is_prepared():
            return
    there = f"{spec}: it is not in {builder.data_dir}"
    manager = builder._make_download_manager

    def manager_with_network(*args, **options):
        print(f"kzoo: {there}; TFDS downloads and prepares it", file=sys.stderr)
        _check_network(builder)  # TFDS itself would try for minutes
        return manager(*args, **options)

    with _quiet(), contextlib.redirect_stdout(sys.stderr):
        builder._make_download_manager = manager_with_network
        try:
            builder.download_and_prepare()
        except Exception as error:  # of the network, of archives, of what the set needs to be installed
            told = " ".join(str(error).split()) or type(error).__name__
            told = f"{there}, and cannot be downloaded: {told.rstrip('.')}"
            raise DataError(f"{told}; or expected data_dir=DIR, where DIR has it prepared") from error
        finally:
            builder._make_download_manager = manager


def _check_network(builder: tfds.core.DatasetBuilder) -> None:
    """Refuses to download from hosts that have no address here."""
    if urllib.request.getproxies() or builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return
    hosts = {urlsplit(url).hostname for url in builder.url_infos}
    for host in sorted(filter(None, hosts)):
        try:
            socket.getaddrinfo(host, None)
        except OSError:
            raise OSError(f"{host} is not to be reached") from None


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that TFDS logs of sets that are not prepared."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
