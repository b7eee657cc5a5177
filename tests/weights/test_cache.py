from pathlib import Path, PurePath

import pytest

from kzoo.weights import WeightsError
from kzoo.weights.cache import cache_directory


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    for variable in ("KZOO_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("platform", "place"),
    [
        ("linux", ".cache/kzoo"),
        ("freebsd14", ".cache/kzoo"),
        ("darwin", "Library/Caches/kzoo"),
        ("win32", "AppData/Local/kzoo/Cache"),
    ],
)
def test_each_platform_has_its_place(platform, place, monkeypatch, home):
    monkeypatch.setattr("sys.platform", platform)
    assert cache_directory() == home / PurePath(place)


def test_platforms_own_variables_move_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_directory() == tmp_path / "xdg" / "kzoo"
    monkeypatch.setattr("sys.platform", "win32")
    assert cache_directory() == tmp_path / "local" / "kzoo" / "Cache"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_directory() == tmp_path / "Library" / "Caches" / "kzoo"


def test_relative_xdg_cache_home_is_ignored(monkeypatch, home):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert cache_directory() == home / ".cache" / "kzoo"


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_kzoo_home_comes_first(platform, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("KZOO_HOME", str(tmp_path / "mine"))
    assert cache_directory() == tmp_path / "mine"


def test_kzoo_home_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KZOO_HOME", "here")
    assert cache_directory() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path / "ada"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "ada"))
    monkeypatch.setenv("KZOO_HOME", "~/weights")
    assert cache_directory() == tmp_path / "ada" / "weights"


def test_empty_kzoo_home_is_none(monkeypatch, home):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("KZOO_HOME", "")
    assert cache_directory() == home / ".cache" / "kzoo"


def test_without_a_home_folder_the_error_says_what_to_set(monkeypatch):
    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(WeightsError, match="KZOO_HOME"):
        cache_directory()
