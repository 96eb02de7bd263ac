"""The store: publication by rename, resuming, damage, locks; and keys that follow what can change the bytes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline import digest
from pipeline.store import Entry, folder_writable, store_list, store_prune
from shot.errors import MissingResource
from shot.frames import DamagedFile, FrameFolder, FrameWriter, arrays_pack
from shot.params import Shot

FRAMES = list(range(1001, 1006))


def fill(folder: FrameFolder, frames: list[int]) -> None:
    """Frames whose content follows from their number."""
    for frame in frames:
        if not folder.has_frame(frame):
            folder.put_frame(frame, {"x": np.full(1000, frame, np.float32)})


def made(root: Path) -> Entry:
    """A published result."""
    entry = Entry("draw", "k0", root)
    fill(entry.open_partial(), FRAMES)
    entry.publish(FRAMES, {"stage": "draw"})
    return entry


def test_same_arrays_same_bytes():
    """Packing does not depend on the clock or on the order of names."""
    a, b = np.arange(5), np.ones((2, 3), np.float16)
    first = arrays_pack({"a": a, "b": b})
    time.sleep(0.01)
    assert first == arrays_pack({"b": b, "a": a})


def test_frames_written_behind_are_those_written_at_once(tmp_path: Path):
    """A FrameWriter publishes the same bytes in order, tells of a frame once it is there, and raises what fails in its thread."""
    told: list[int] = []
    behind, once = FrameFolder(tmp_path / "behind"), FrameFolder(tmp_path / "once")

    def progress(frame: int) -> None:
        assert behind.has_frame(frame)
        told.append(frame)

    with FrameWriter(behind, progress) as writer:
        for frame in range(1001, 1005):
            arrays = {"a": np.arange(frame)}
            writer.put(frame, arrays)
            once.put_frame(frame, arrays)
    assert told == [1001, 1002, 1003, 1004]
    assert all((behind.path / p.name).read_bytes() == p.read_bytes() for p in once.path.iterdir())
    with pytest.raises(ValueError, match="Object arrays"), FrameWriter(behind, progress) as writer:
        writer.put(1005, {"a": np.array([None])})


def test_published_once_and_whole(tmp_path: Path):
    """A result exists only after its manifest; asking for more frames than it holds is a miss that keeps the others."""
    entry = Entry("draw", "k0", tmp_path)
    fill(entry.open_partial(), FRAMES)
    assert not entry.hit(FRAMES, pytest.fail)
    entry.publish(FRAMES, {})
    assert entry.hit(FRAMES, pytest.fail) and not entry.partial.exists()
    assert not entry.hit([*FRAMES, 1006], pytest.fail)
    assert entry.open_partial().frames_done(FRAMES) == len(FRAMES)


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_damage_is_a_miss_with_one_warning(tmp_path: Path, damage: str):
    """A truncated, changed or missing file demotes the result; its good frames are kept, the bad one is made again."""
    entry = made(tmp_path)
    victim = entry.whole / "frame.1003.npz"
    data = victim.read_bytes()
    if damage == "delete":
        victim.unlink()
    else:
        victim.write_bytes(data[: len(data) // 2] if damage == "truncate" else data[:-30] + bytes([data[-30] ^ 1]) + data[-29:])
    warnings: list[str] = []
    assert not entry.hit(FRAMES, warnings.append)
    assert len(warnings) == 1 and "damaged" in warnings[0]
    folder = entry.open_partial()
    assert folder.frames_done(FRAMES) == 2
    with pytest.raises(DamagedFile, match="frame.1003"):
        folder.get_frame(1003)
    fill(folder, FRAMES)
    entry.publish(FRAMES, {})
    assert entry.hit(FRAMES, pytest.fail) and victim.read_bytes() == data


WRITER = """
import sys, time, numpy as np
from pathlib import Path
from pipeline.store import Entry
entry = Entry("draw", "k0", Path(sys.argv[1]))
with entry.writing(lambda line: print(line, flush=True)):
    folder = entry.open_partial()
    for frame in range(1001, 1041):
        if not folder.has_frame(frame):
            folder.put_frame(frame, {"x": np.full(200000, frame, np.float32)}, level=6)
            print(frame, flush=True)
            time.sleep(float(sys.argv[2]))
    entry.publish(list(range(1001, 1041)), {})
"""


def writer(root: Path, pause: float) -> subprocess.Popen[str]:
    """A process that writes forty frames."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(pause)], stdout=subprocess.PIPE, text=True,
        cwd=digest.ROOT, env={**os.environ, "PYTHONPATH": str(digest.ROOT)},
    )


def test_kill_9_loses_at_most_the_frame_in_flight(tmp_path: Path):
    """A killed writer leaves whole frames and a stale lock; the next takes over and ends with the same bytes."""
    victim = writer(tmp_path / "a", 0.02)
    assert victim.stdout is not None
    for _ in range(7):
        victim.stdout.readline()
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    partial = Entry("draw", "k0", tmp_path / "a").partial
    survived = FrameFolder(partial).frames_done(range(1001, 1041))
    assert survived >= 6
    again = writer(tmp_path / "a", 0.0)
    text, _ = again.communicate()
    assert "taking over the lock" in text and len([line for line in text.split() if line.isdigit()]) == 40 - survived
    writer(tmp_path / "b", 0.0).communicate()
    whole = [Entry("draw", "k0", tmp_path / name).whole for name in "ab"]
    for path in sorted(p for p in whole[0].iterdir()):
        assert path.read_bytes() == (whole[1] / path.name).read_bytes()


def test_lock_of_a_writer_killed_after_publishing(tmp_path: Path):
    """kill -9 between the rename and the end of the lock: whoever finds the result whole drops the lock, unless its writer lives."""
    entry = made(tmp_path)
    entry.lock.write_text(f"{socket.gethostname()} {os.getpid()} 1")  # a start time of no living process
    assert entry.hit(FRAMES, pytest.fail) and not entry.lock.exists()
    assert entry._take() and entry.hit(FRAMES, pytest.fail) and entry.lock.exists()


def test_two_writers_do_not_mix(tmp_path: Path):
    """The second writer waits for the first and then finds the frames done."""
    first, second = writer(tmp_path, 0.01), writer(tmp_path, 0.01)
    frames = [[line for line in process.communicate()[0].split("\n") if line.isdigit()] for process in (first, second)]
    assert sorted(map(len, frames)) == [0, 40]


def test_list_and_prune(tmp_path: Path):
    """Listing knows states and sizes; pruning by age and size spares what is locked."""
    entry = made(tmp_path)
    fill(Entry("draw", "k1", tmp_path).open_partial(), FRAMES[:2])
    assert {(row.key, row.state, row.frames) for row in store_list(tmp_path)} == {("k0", "whole", 5), ("k1", "partial", 2)}
    with entry.writing(pytest.fail):
        store_prune(tmp_path, 0.0, None)
        assert entry.whole.exists() and not Entry("draw", "k1", tmp_path).partial.exists()
    assert store_prune(tmp_path, 1e9, 0.0)[0] == 1


def test_unwritable_folder_is_one_sentence(tmp_path: Path):
    """A folder that cannot be made is a MissingResource naming it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingResource, match="cannot be written"):
        folder_writable(tmp_path / "file" / "cache", "cache folder")


def test_trimmed_shot_hides_what_is_not_declared():
    """A stage sees the default of everything it does not read."""
    shot = Shot.model_validate({"seed": 7, "sim": {"gravity": 3.0}, "dust": {"cell": 0.5, "detail": 0.9}})
    seen = digest.shot_trimmed(shot, ("dust", "!dust.detail"))
    assert (seen.seed, seen.sim.gravity, seen.dust.cell, seen.dust.detail) == (7, Shot().sim.gravity, 0.5, Shot().dust.detail)


def test_every_parameter_is_read_by_a_stage():
    """No parameter falls between the stages: each leaf is in the part of some stage or of the delivery."""
    from pipeline.stages import DELIVERY, STAGES

    read = {key for stage in STAGES for key in digest.shot_part(Shot(), stage.reads)} | set(digest.shot_part(Shot(), DELIVERY))
    leaves = set(digest.shot_part(Shot(), ("*",)))
    assert leaves - read <= {"name", "extends"}


def test_sources_digest_follows_imports():
    """The digest of a stage covers the files it imports and no stage of another package."""
    assert digest.sources_digest("shot.frames") != digest.sources_digest("shot.rotation")
    assert digest._module_file("shot.frames") == digest.ROOT / "shot" / "frames.py"
    assert digest._module_file("numpy") is None

