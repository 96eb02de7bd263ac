"""The main job on a tiny shot, as a user runs it: whole, killed and gone on with, damaged and mended, in chunks."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.digest import ROOT

TINY = str(ROOT / "tests" / "shots" / "tiny_wall.toml")
QUICK = ("-s", "refine.backend=none", "-s", "frames=6")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`demolish run` with a store and a take of its own."""
    command = [sys.executable, "-P", str(ROOT / "cli.py"), "run", TINY, *QUICK, "-o", str(folder / "take"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DEMOLISH_CACHE": str(folder / "cache")}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, *arguments: str) -> str:
    """Run to the end; what it told."""
    process = start(folder, *arguments)
    told = process.communicate()[1]
    assert process.returncode == 0, told
    return told


def pictures(folder: Path) -> dict[str, str]:
    """Digest of every delivered EXR and PNG frame."""
    take = folder / "take"
    return {str(p.relative_to(take)): hashlib.blake2b(p.read_bytes()).hexdigest()
            for p in sorted(take.rglob("*.*")) if p.suffix in (".exr", ".png") and p.parent != take}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder)
    return folder


def test_everything_is_delivered(whole: Path):
    """EXR and PNG per frame, film, sheet, energy plot and run.json with provenance and seconds per stage."""
    take = whole / "take"
    assert len(list(take.rglob("*.exr"))) == 6 and list(take.glob("*.mp4")) and list(take.glob("*sheet*.png"))
    report = json.loads((take / "run.json").read_text())
    assert {"version", "shot_hash", "seed", "device", "models", "seconds", "stage_keys"} <= set(report)
    assert set(report["seconds"]) >= {"simulate", "draw", "deliver"} and (take / "energy.png").is_file()


def test_second_run_takes_all_from_the_store(whole: Path):
    """Running again makes no stage anew and leaves the pictures as they are."""
    before = pictures(whole)
    told = finish(whole)
    assert told.count("from the store") == 8 and pictures(whole) == before


def test_damaged_result_is_made_again(whole: Path):
    """A truncated frame of the simulation is one warning, and the pictures come out the same."""
    before = pictures(whole)
    victim = next((whole / "cache" / "simulate").glob("*/frame.1004.npz"))
    victim.write_bytes(victim.read_bytes()[:100])
    told = finish(whole)
    assert told.count("is damaged") == 1 and pictures(whole) == before


@pytest.mark.slow
def test_killed_at_any_moment_ends_bit_identical(whole: Path, tmp_path: Path):
    """kill -9 several times, then run to the end: the same bytes as an undisturbed run."""
    for seconds in (4.0, 7.0, 9.0):
        process = start(tmp_path)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(tmp_path)
    assert pictures(tmp_path) == pictures(whole)


@pytest.mark.slow
def test_chunks_are_the_same_frames(whole: Path, tmp_path: Path):
    """Frames asked for alone are those of the whole shot."""
    finish(tmp_path, "--frames", "1003-1004")
    part, all_ = pictures(tmp_path), pictures(whole)
    assert part and all(all_[name] == content for name, content in part.items() if "sheet" not in name)
