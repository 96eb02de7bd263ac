"""The store of results: content-keyed folders, partial until whole, one writer each.

Layout under the cache folder: `<stage>/<key>/` is a whole result with `manifest.json` (what it was made from, every
file with size and digest); `<stage>/<key>.partial/` is one in the making, whose finished frames are kept when a run
dies; `<stage>/<key>.lock` names the host and process that writes and is touched as a heartbeat. A result is published by one
rename. A lock is stale when its process is gone (same host) or its heartbeat is old. A result with a missing or changed
file is demoted to partial with one warning: its good frames still count. Not in keys, not in cached bytes: host, time,
command line. Network file systems without atomic rename are not handled.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.digest import file_digest
from shot.errors import MissingResource
from shot.frames import FrameFolder, file_publish

HEARTBEAT = 5.0  # [s] between touches of a lock
STALE = 60.0  # [s] without a touch after which a lock of another host is taken over

Warn = Callable[[str], None]


def cache_folder() -> Path:
    """$DEMOLISH_CACHE, else $XDG_CACHE_HOME/demolish, else ~/.cache/demolish."""
    if os.environ.get("DEMOLISH_CACHE"):
        return Path(os.environ["DEMOLISH_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "demolish"


def folder_writable(path: Path, what: str) -> None:
    """Create a folder and try to write in it. Raises MissingResource with the reason."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        file_publish(path / f".probe.{os.getpid()}", b"probe")
        (path / f".probe.{os.getpid()}").unlink()
    except OSError as error:
        raise MissingResource(f"{what} {path} cannot be written: {error.strerror or error}") from None


@dataclass(frozen=True)
class Entry:
    """One result of the store, whole or in the making."""

    stage: str
    key: str
    root: Path

    @property
    def whole(self) -> Path:
        """Folder of the finished result."""
        return self.root / self.stage / self.key

    @property
    def partial(self) -> Path:
        """Folder of the result in the making."""
        return self.root / self.stage / f"{self.key}.partial"

    @property
    def lock(self) -> Path:
        """Lock file of the writer."""
        return self.root / self.stage / f"{self.key}.lock"

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of a finished result, or None."""
        try:
            return json.loads((self.whole / "manifest.json").read_text())
        except (OSError, ValueError):
            return None

    def hit(self, frames: Sequence[int], warn: Warn, deep: bool = True) -> bool:
        """True if the result is whole, undamaged and holds the frames; a damaged one is demoted with a warning."""
        manifest = self.manifest()
        if manifest is None:
            return False
        bad = self._damage(manifest, deep)
        if bad:
            warn(f"{self.stage}: {bad} is damaged; making it again")
            self.demote()
            return False
        if self.lock.exists() and self._stale():  # of a writer that was killed between publishing and letting go
            self.lock.unlink(missing_ok=True)
        return set(frames) <= set(manifest["frames"])

    def _damage(self, manifest: dict[str, Any], deep: bool) -> str:
        for name, (size, content) in manifest["files"].items():
            path = self.whole / name
            if not path.is_file() or path.stat().st_size != size or (deep and file_digest(path) != content):
                return str(path)
        return ""

    def demote(self) -> None:
        """Turn a finished result back into a partial one, keeping its good frames."""
        if not self.whole.is_dir():
            return
        (self.whole / "manifest.json").unlink(missing_ok=True)
        if self.partial.exists():
            shutil.rmtree(self.whole)
        else:
            os.replace(self.whole, self.partial)

    def folder(self) -> FrameFolder:
        """The finished result as a folder of frames."""
        return FrameFolder(self.whole)

    def open_partial(self) -> FrameFolder:
        """The partial folder; a finished result that lacks frames is reopened as partial."""
        self.demote()
        return FrameFolder(self.partial)

    def publish(self, frames: Sequence[int], made_from: dict[str, Any]) -> None:
        """Write the manifest and rename partial to whole in one step."""
        for leftover in self.partial.rglob(".*.tmp"):
            leftover.unlink()
        files = {
            str(p.relative_to(self.partial)): (p.stat().st_size, file_digest(p))
            for p in sorted(self.partial.rglob("*")) if p.is_file() and p.name != "manifest.json"
        }
        held = sorted({int(p.stem.split(".")[1]) for p in self.partial.glob("frame.*.digest")} | set(frames))
        manifest = {"stage": self.stage, "key": self.key, "frames": held, "made_from": made_from, "files": files}
        file_publish(self.partial / "manifest.json", json.dumps(manifest, sort_keys=True, indent=1).encode())
        os.replace(self.partial, self.whole)

    @contextmanager
    def writing(self, warn: Warn) -> Iterator[None]:
        """Hold the writer's lock; waits for another writer, takes over a dead one's."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        told = False
        while not self._take():
            if self._stale():
                warn(f"{self.stage}: taking over the lock of a writer that is gone")
                self.lock.unlink(missing_ok=True)
                continue
            if not told:
                warn(f"{self.stage}: waiting for the process that writes {self.key} ({self.lock.read_text()})")
                told = True
            time.sleep(0.5)
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(stop,), daemon=True)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()
            self.lock.unlink(missing_ok=True)

    def _take(self) -> bool:
        try:
            handle = os.open(self.lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(handle, "w") as file:
            file.write(f"{socket.gethostname()} {os.getpid()} {_process_start(os.getpid())}")
        return True

    def _stale(self) -> bool:
        try:
            words = self.lock.read_text().split()
            age = time.time() - self.lock.stat().st_mtime
        except OSError:
            return False
        if len(words) == 3 and words[0] == socket.gethostname():
            return _process_start(int(words[1])) != words[2]
        return age > STALE

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT):
            try:
                os.utime(self.lock)
            except OSError:
                return


def _process_start(pid: int) -> str:
    """Start time of a process in clock ticks, so that a recycled pid is not taken for the writer; '' if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


@dataclass(frozen=True)
class Listed:
    """One row of `demolish cache ls`."""

    stage: str
    key: str
    state: str  # whole, partial, locked
    frames: int
    size: int  # [bytes]
    age: float  # [s] since last use


def store_list(root: Path) -> list[Listed]:
    """Everything in the store, oldest first."""
    rows = []
    for folder in sorted(p for p in root.glob("*/*") if p.is_dir()):
        key = folder.name.removesuffix(".partial")
        entry = Entry(folder.parent.name, key, root)
        state = "locked" if entry.lock.exists() and not entry._stale() else "partial" if folder.suffix == ".partial" else "whole"
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        frames = len(list(folder.glob("frame.*.digest")))
        rows.append(Listed(entry.stage, key, state, frames, size, time.time() - folder.stat().st_mtime))
    return sorted(rows, key=lambda row: -row.age)


def store_prune(root: Path, older_than: float, keep_size: float | None) -> tuple[int, int]:
    """Delete results unused for `older_than` seconds, then the oldest until at most `keep_size` bytes stay. Locked ones stay.

    Returns (results, bytes) deleted."""
    rows = [row for row in store_list(root) if row.state != "locked"]
    total = sum(row.size for row in rows)
    count = freed = 0
    for row in rows:
        if row.age >= older_than or (keep_size is not None and total - freed > keep_size):
            entry = Entry(row.stage, row.key, root)
            shutil.rmtree(entry.partial if row.state == "partial" else entry.whole)
            entry.lock.unlink(missing_ok=True)  # of a writer that was killed
            count, freed = count + 1, freed + row.size
    return count, freed
