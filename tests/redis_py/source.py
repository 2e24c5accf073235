"""Gets redis-py's tests from its source distribution, into a cache inside the project."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "redis-py"

# What pip prints when it could not talk to the index, as against an index without the file.
_UNREACHABLE = (
    "Retrying (",
    "Could not fetch URL",
    "ConnectionError",
    "ConnectTimeout",
    "ReadTimeout",
    "ProxyError",
    "Temporary failure in name resolution",
    "timed out",
)


class SourceError(Exception):
    """redis-py's tests could not be obtained; the message says why."""


class IndexUnreachable(SourceError):
    """The package index could not be reached at all."""


def installed_version() -> str:
    """Return the version of the redis-py that is installed here."""
    return version("redis")


def fetch() -> Path:
    """Return the folder that holds ``tests/`` of the installed redis-py, downloading it once.

    Raises IndexUnreachable without a package index, SourceError for anything else that is wrong.
    """
    release = installed_version()
    home = CACHE / f"redis-{release}"
    if not home.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            archive = _download(release, Path(scratch))
            _unpack(archive, Path(scratch, "unpacked"))
            _move(Path(scratch, "unpacked", f"redis-{release}"), home)
    return home


def _download(release: str, folder: Path) -> Path:
    """Let pip, with whatever index it is configured for, put the source distribution there."""
    wanted = folder / "wanted.txt"
    pinned = _pinned(release)
    wanted.write_text((pinned or f"redis=={release}") + "\n")
    command = [
        *_pip(),
        "download",
        "--quiet",
        "--no-input",
        "--no-deps",
        "--no-binary=redis",
        "--no-build-isolation",
        *(["--require-hashes"] if pinned else []),
        f"--dest={folder}",
        f"--requirement={wanted}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(HERE / "standin")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    archive = folder / f"redis-{release}.tar.gz"
    if done.returncode == 0 and archive.is_file():
        return archive
    said = (done.stdout + done.stderr).strip()
    kind = IndexUnreachable if any(sign in said for sign in _UNREACHABLE) else SourceError
    raise kind(f"pip could not download the source distribution of redis {release}:\n{said}")


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    uv = shutil.which("uv")
    if uv is not None:
        return [uv, "tool", "run", "--python", sys.executable, "pip"]
    raise SourceError("neither pip nor uv is here to download redis-py's tests with")


def _pinned(release: str) -> str | None:
    for line in (HERE / "requirements.txt").read_text().splitlines():
        if line.startswith(f"redis=={release} "):
            return line
    return None


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack ``tests/`` alone: a second ``redis`` beside it would hide the installed one."""
    with tarfile.open(archive) as tar:
        wanted = [one for one in tar.getmembers() if Path(one.name).parts[1:2] == ("tests",)]
        if not wanted:
            raise SourceError(f"{archive.name} contains no tests")
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, members=wanted, filter="data")
        else:  # Python 3.11.3 and before; the archive is the one whose hash is known
            tar.extractall(folder, members=wanted)


def _move(unpacked: Path, home: Path) -> None:
    try:
        unpacked.rename(home)
    except OSError:
        if not home.is_dir():  # else another run was quicker, and what it left is the same
            raise
