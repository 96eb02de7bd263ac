"""A folder of frames: what a stage streams to disk and the next one streams from it.

In: a folder, frame numbers, dicts of numpy arrays. Out: one `frame.1001.npz` per frame plus a digest, both published by
rename, so that a killed writer leaves either a whole frame or none. The arrays of the same values give the same file bytes
(fixed zip dates, fixed compression). A frame whose digest does not match counts as absent. Does not lock: that is the store's work.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np


class DamagedFile(Exception):
    """A file of a result that is missing, truncated or changed; names the file."""


def arrays_pack(arrays: Mapping[str, np.ndarray], level: int = 1) -> bytes:
    """Bytes of an npz with fixed dates; `level` 0 stores, 1..9 deflates."""
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method, compresslevel=level or None) as archive:
        for name in sorted(arrays):
            member = io.BytesIO()
            # asarray, because ascontiguousarray would make () a (1,)
            np.lib.format.write_array(member, np.asarray(arrays[name], order="C"), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")
            info.compress_type = method
            archive.writestr(info, member.getvalue(), compresslevel=level or None)
    return buffer.getvalue()


class Arrays(Mapping[str, np.ndarray]):
    """Read-only arrays of `arrays_pack`, each unpacked when it is first asked for: most readers of a frame want a few of twenty."""

    def __init__(self, data: bytes):
        self._archive = np.load(io.BytesIO(data), allow_pickle=False)
        self._at_hand: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._at_hand:
            array = self._archive[name]
            array.setflags(write=False)
            self._at_hand[name] = array
        return self._at_hand[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._archive.files)

    def __len__(self) -> int:
        return len(self._archive.files)


def file_publish(path: Path, data: bytes) -> None:
    """Write bytes so that `path` is either absent, old or whole: temporary file, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)  # write and fsync do not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)


class FrameFolder:
    """Frames and single arrays under one folder, each with a blake2b digest beside it."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npz"

    def put(self, name: str, arrays: Mapping[str, np.ndarray], level: int = 1) -> None:
        """Publish arrays under a name; the digest goes last and makes them count."""
        data = arrays_pack(arrays, level)
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        self._file(name).with_suffix(".digest").unlink(missing_ok=True)
        file_publish(self._file(name), data)
        file_publish(self._file(name).with_suffix(".digest"), digest.encode())

    def get(self, name: str) -> Arrays:
        """Arrays under a name. Raises DamagedFile where the file is missing or does not match its digest."""
        try:
            data = self._file(name).read_bytes()
            digest = self._file(name).with_suffix(".digest").read_text()
        except OSError as error:
            raise DamagedFile(f"{self._file(name)}: {error.strerror}") from error
        if hashlib.blake2b(data, digest_size=16).hexdigest() != digest:
            raise DamagedFile(f"{self._file(name)}: content does not match its digest")
        return Arrays(data)

    def has(self, name: str) -> bool:
        """True if the arrays are there and whole."""
        try:
            self.get(name)
        except DamagedFile:
            return False
        return True

    def put_frame(self, frame: int, arrays: Mapping[str, np.ndarray], level: int = 1) -> None:
        """Publish one frame."""
        self.put(f"frame.{frame:04d}", arrays, level)

    def get_frame(self, frame: int) -> Arrays:
        """Arrays of one frame."""
        return self.get(f"frame.{frame:04d}")

    def has_frame(self, frame: int) -> bool:
        """True if the frame is there and whole."""
        return self.has(f"frame.{frame:04d}")

    def frames_done(self, wanted: range | list[int]) -> int:
        """How many frames from the start of `wanted` are there without a gap."""
        for count, frame in enumerate(wanted):
            if not self.has_frame(frame):
                return count
        return len(wanted)

    def put_json(self, name: str, value) -> None:
        """Publish a small JSON document with sorted keys."""
        file_publish(self.path / f"{name}.json", json.dumps(value, sort_keys=True, indent=1).encode())

    def get_json(self, name: str):
        """Read a JSON document. Raises DamagedFile if it is missing or not JSON."""
        try:
            return json.loads((self.path / f"{name}.json").read_text())
        except (OSError, ValueError) as error:
            raise DamagedFile(f"{self.path / name}.json: {error}") from error


class FrameWriter:
    """Publishes the frames of a stage from a second thread: one is packed while the stage makes the next.

    At most one waits. `progress` hears of a frame, in the stage's thread, once it is published. What fails in writing is raised by the next
    `put` or at the end of the block. The arrays of a frame must not change after `put`."""

    def __init__(self, folder: FrameFolder, progress: Callable[[int], None]):
        self._folder, self._progress = folder, progress
        self._thread = ThreadPoolExecutor(1)
        self._waiting: tuple[int, Future[None]] | None = None

    def put(self, frame: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Publish a frame soon, after the one before it."""
        self.finish()
        self._waiting = frame, self._thread.submit(self._folder.put_frame, frame, arrays)

    def finish(self) -> None:
        """Wait until every frame given so far is published."""
        if self._waiting is not None:
            frame, job = self._waiting
            self._waiting = None
            job.result()
            self._progress(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self._thread.shutdown()
