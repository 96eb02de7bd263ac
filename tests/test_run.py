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


def start(folder: Path, *arguments: str, asked: tuple[str, ...] = QUICK) -> subprocess.Popen[str]:
    """`demolish run` with a store and a take of its own."""
    command = [sys.executable, "-P", str(ROOT / "cli.py"), "run", TINY, *asked, "-o", str(folder / "take"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DEMOLISH_CACHE": str(folder / "cache")}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, *arguments: str, asked: tuple[str, ...] = QUICK) -> str:
    """Run to the end; what it told."""
    process = start(folder, *arguments, asked=asked)
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
def test_killed_at_any_moment_ends_bit_identical(whole: Path, tmp_path: Path, record_property):
    """kill -9 several times while frames are being written, then run to the end: the same bytes as an undisturbed run."""
    killed = []
    for stage in ("simulate", "dust", "draw"):
        process = start(tmp_path)
        while process.poll() is None and not list((tmp_path / "cache" / stage).glob("*.partial/frame.1002.digest")):
            time.sleep(0.01)
        killed += [stage] if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.communicate()
    told = finish(tmp_path)
    assert pictures(tmp_path) == pictures(whole)
    assert killed == ["simulate", "dust", "draw"] and "going on after" in told
    record_property("killed in", " ".join(killed))


@pytest.mark.slow
def test_chunks_are_the_same_frames(whole: Path, tmp_path: Path):
    """Frames asked for alone are those of the whole shot, to the byte."""
    finish(tmp_path, "--frames", "1003-1004")
    part, all_ = pictures(tmp_path), pictures(whole)
    assert len(part) == 4 and all(all_[name] == content for name, content in part.items())


@pytest.mark.slow
def test_chunks_of_a_thinned_and_refined_shot(tmp_path: Path):
    """The same where debris is thinned over the shot and the refiner looks back: two frames alone, one of each chunk."""
    asked = ("-s", "frames=30", "-s", "debris.limit=100", "-s", "refine.backend=embedded")
    for name, frames in (("whole", "1001-1030"), ("part", "1021-1026x5")):
        (tmp_path / name).mkdir()
        finish(tmp_path / name, "--frames", frames, asked=asked)
    part, all_ = pictures(tmp_path / "part"), pictures(tmp_path / "whole")
    assert len(part) == 4 and all(all_[name] == content for name, content in part.items())
