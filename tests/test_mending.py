"""Damage found late is mended, a full disk is one sentence, and progress counts what there is to do."""

from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import pytest

import shot.frames
from pipeline.digest import ROOT
from pipeline.progress import Quiet
from pipeline.run import Run, run
from pipeline.store import store_list
from shot.errors import FramesFailed, MissingResource
from shot.load import shot_load

SHOT = ROOT / "tests" / "shots" / "tiny_wall.toml"
SMALL = ["frames=6", "camera.width=64", "camera.height=36", "refine.backend=none", "sim.checkpoint=2"]


class Told(Quiet):
    """Counts what is reported, and acts when delivery begins."""

    def __init__(self, at_delivery=lambda: None):
        self.at_delivery, self.lines, self.total, self.done, self.name = at_delivery, [], Counter(), Counter(), ""

    def stage(self, name: str, total: int) -> None:
        self.name = name
        self.total[name] += total
        if name == "deliver":
            self.at_delivery()

    def advance(self, frame: int) -> None:
        self.done[self.name] += 1

    def line(self, text: str) -> None:
        self.lines.append(text)


def made(folder: Path, told: Told, frames: list[int] | None = None) -> Run:
    """The small shot through the real stages."""
    return run(shot_load(SHOT, SMALL), frames, "deliver", folder / "take", folder / "store", told)


def truncated(path: Path) -> bytes:
    """Cut a file in half; what it was."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


@pytest.fixture(scope="module")
def finished(taichi, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, made(folder, Told())


@pytest.mark.parametrize(("stage", "name"), [("draw", "frame.1003.npz"), ("draw", "static.npz")])
def test_damage_met_in_delivery_is_mended(finished: tuple[Path, Run], stage: str, name: str):
    """A file that breaks after it was checked is one warning; its stage makes it again and every frame is delivered."""
    folder, first = finished
    victim = folder / "store" / stage / first.keys[stage] / name
    for path in (folder / "take" / ".delivered").iterdir():
        path.unlink()  # so that delivery reads the guides again
    original: list[bytes] = []

    def act() -> None:
        if not original:
            original.append(truncated(victim))

    told = Told(act)
    again = made(folder, told)
    assert len([line for line in told.lines if "making it again" in line and name in line]) == 1, told.lines
    assert victim.read_bytes() == original[0] and again.delivered["figures"]["frames"] == 6


def test_a_disk_that_damages_everything_ends(finished: tuple[Path, Run]):
    """Damage that comes back each time ends in FramesFailed (exit code 4) naming the file, not in a loop."""
    folder, first = finished
    victim = folder / "store" / "draw" / first.keys["draw"] / "frame.1003.npz"
    for path in (folder / "take" / ".delivered").iterdir():
        path.unlink()
    told = Told(lambda: truncated(victim) and None)
    with pytest.raises(FramesFailed, match=r"frame.1003.npz.*check the disk"):
        made(folder, told)
    made(folder, Told())


def test_progress_counts_what_is_left(finished: tuple[Path, Run]):
    """A simulation that goes on from a state reports each missing frame once: as many as were announced."""
    folder, first = finished
    victim = folder / "store" / "simulate" / first.keys["simulate"] / "frame.1006.npz"
    truncated(victim)
    told = Told()
    made(folder, told)
    assert told.total["simulate"] == told.done["simulate"] == 1
    whole = Told()
    made(folder.parent / "anew", whole)
    assert all(whole.done[name] == total for name, total in whole.total.items() if total), (whole.done, whole.total)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_one_sentence(taichi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    """No space left while a frame is written: MissingResource (exit code 5) says what to do; with space the run goes on."""
    publish = shot.frames.file_publish

    def full(path: Path, data: bytes) -> None:
        if path.name == "frame.1004.npz":
            raise OSError(number, "No space left on device", str(path))
        publish(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(shot.frames, "file_publish", full)
        with pytest.raises(MissingResource, match=r"disk full.*frame.1004.npz.*run again") as caught:
            made(tmp_path, Told())
    assert caught.value.exit_code == 5
    told = Told()
    assert made(tmp_path, told).delivered["figures"]["frames"] == 6
    assert any("going on after" in line for line in told.lines)
    assert {row.state for row in store_list(tmp_path / "store")} == {"whole"}
