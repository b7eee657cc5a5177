"""Where fetched files are kept on this machine."""

import os
import sys
from pathlib import Path

from kzoo.weights.errors import WeightsError


def cache_directory() -> Path:
    r"""The folder of everything that kzoo fetches: `KZOO_HOME`, else kzoo's place in the platform's cache.

    | platform | folder |
    |---|---|
    | Linux and others | `$XDG_CACHE_HOME/kzoo`, else `~/.cache/kzoo` |
    | macOS | `~/Library/Caches/kzoo` |
    | Windows | `%LOCALAPPDATA%\kzoo\Cache` |

    Returns:
        An absolute path. The folder need not exist yet.

    Raises:
        WeightsError: there is no `KZOO_HOME`, and this user has no home folder.
    """
    try:
        if chosen := os.environ.get("KZOO_HOME"):
            return Path(chosen).expanduser().absolute()
        if sys.platform == "win32":
            local = os.environ.get("LOCALAPPDATA")
            return (Path(local) if local else Path.home() / "AppData" / "Local") / "kzoo" / "Cache"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "kzoo"
        shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
        # The XDG specification has a relative path ignored.
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "kzoo"
    except RuntimeError as fault:  # pathlib's, where there is no home
        raise WeightsError(f"no folder for the cache: {fault} KZOO_HOME names one.") from fault
