"""Same shot, same bits: repeats, threads, serial and parallel sweeps, cold and warm kernels, resumed at any frame, pairs in another order.

A frame counts as equal if all that it stores is, and with it the hash of the solver's whole state. Taichi hands out loops in tasks of 512
iterations, so that a scene of a few dozen pieces runs on one thread however many there are: `crowd` is large enough for several,
`play` has everything in it that a collapse has. What passes here fails with a float atomic in place of one ordered sum.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.plan import cuda_present
from shot.frames import FrameFolder
from shot.results import BOND_BROKEN, progress_silent
from tests.collapse_scene import FRAMES, crowd, digests, play, scene, seen, shot

ROOT = Path(__file__).resolve().parent.parent


def runs(what: str, threads: int = 2, cache: Path | None = None, **asked) -> list[list[str]]:
    """Digests of the runs of a child process whose Taichi and BLAS have so many threads."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    if cache is not None:
        environment["TI_OFFLINE_CACHE_FILE_PATH"] = str(cache)
    command = [sys.executable, "-m", "tests.collapse_scene", json.dumps({"what": what, "threads": threads, **asked})]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.split("runs", 1)[1])


def equal(found: list[list[str]]) -> None:
    """All runs have the same bits in each frame; says which run leaves first, and where."""
    for number, run in enumerate(found[1:], 1):
        apart = next((k for k, (x, y) in enumerate(zip(found[0], run, strict=True)) if x != y), None)
        assert apart is None, f"run {number} leaves run 0 at frame {apart}"


@pytest.fixture(scope="module")
def whole(taichi, tmp_path_factory) -> tuple[Path, Sequence[Mapping[str, np.ndarray]]]:
    """The scene played from start to end with the state of every frame kept: folder of the states, frames."""
    folder = tmp_path_factory.mktemp("whole")
    states = folder / "states"
    states.mkdir()

    def keep(frame: int) -> None:  # the stage itself keeps two; what is there when a frame is told is the state of the one before
        for path in (folder / "run").glob(f"state.{frame - 1:04d}.*"):
            shutil.copy(path, states / path.name)

    return folder, play(folder / "run", progress=keep)


def test_scene_has_everything_in_it(whole):
    """What a solver can get out of order happens: impacts, crushing, hinges, breaks, splits, sleep, waking, rubble."""
    counts = seen(whole[1])
    assert min(counts.values()) > 0 and counts["woken"] > 5 and counts["fell asleep"] > 20 and counts["hinges"] > 5, counts
    assert whole[1][-1]["asleep"].all()


def test_threads(whole):
    """The collapse with serial sweeps in the test's process, and with parallel ones on four threads: the same bits in each frame."""
    equal([digests(whole[1]), *runs("play", 4, serial_points=[0])])


@pytest.fixture(scope="module")
def crowded(taichi) -> list[str]:
    """Digests of the crowd in the test's process."""
    return crowd()


def test_threads_that_share_the_work(crowded):
    """1 400 blocks, serial sweeps here and parallel ones on four threads."""
    equal([crowded, *runs("crowd", 4, serial_points=[0])])


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a race needs two cores")
def test_a_float_atomic_is_seen(crowded):
    """Forces summed by a parallel loop with atomics fail the same comparison, for two threads are made to meet in it.

    The rows of a plate under 1 400 blocks fill several tasks; a thread that has the first one waits for another to have the second."""
    with pytest.raises(AssertionError, match="leaves run 0"):
        equal([crowded, *runs("crowd", 4, change="atomic")])


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_resumed_at_any_frame(whole, tmp_path, every):
    """Gone on with after each frame (each fourth in the fast run), in the middle of breaking, hinging, sleeping and waking: the next
    frame is the same file."""
    from sim.simulate import simulate

    folder, frames = whole
    asked, structure = shot(), scene()
    hinged = [int((f["bond_state"] == 1).sum()) for f in frames]
    asleep = [int(f["asleep"].sum()) for f in frames]
    for at in range(0, FRAMES - 1, every):
        part, frame = tmp_path / f"{at}", asked.first + at
        part.mkdir()
        for path in sorted((folder / "run").glob("frame.*")):
            if int(path.name.split(".")[1]) <= frame:
                os.link(path, part / path.name)
        for path in (folder / "states").glob(f"state.{frame:04d}.*"):
            os.link(path, part / path.name)
        assert at == 0 or (part / f"state.{frame:04d}.npz").exists()
        last = asked.first + FRAMES - 1 if at in (8, 16) else frame + 1  # two to the end: what a state lacks might show late
        span = range(asked.first, last + 1)
        simulate(asked, *structure, FrameFolder(part), span, progress_silent)
        for number in span:
            name = f"frame.{number:04d}.npz"  # with the hash of the whole state in it
            assert (part / name).read_bytes() == (folder / "run" / name).read_bytes(), f"resumed after {frame}, {name} differs"
    assert max(hinged) > hinged[-1] > 0 and 0 < asleep[15] < asleep[-1]  # these were in the middle of things


def test_pairs_in_another_order(whole, tmp_path):
    """What the broadphase finds is shuffled before the solver takes it, in each step another way: the sort gives the same bits."""
    from tests.solver_changes import change

    try:
        change("permuted")
        equal([digests(whole[1]), digests(play(tmp_path / "permuted"))])
        change("unsorted")
        with pytest.raises(AssertionError, match="leaves run 0"):
            equal([digests(whole[1][:6]), digests(play(tmp_path / "unsorted", 6))])
    finally:
        change("")


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> list[str]:
    """Where two runs that round differently leave the bands: all of frame 11 within 10 um, though things broke by then; at the end no piece
    0.4 m away, the centre of mass within 20 mm of height and the broken bonds within 3. A nudge of 1 um measured 2 um, 0.13 m, 7 mm, 1."""
    mass = scene()[0].mass
    away = np.abs(one["position"] - other["position"]).max(axis=(1, 2))
    height = [float(np.average(run["position"][-1, :, 1], weights=mass)) for run in (one, other)]
    broken = [int((run["bond_state"][-1] == BOND_BROKEN).sum()) for run in (one, other)]
    found = {
        f"early by {away[:11].max():.2g} m": away[:11].max() > 1e-5, f"at the end by {away[-1]:.2g} m": away[-1] > 0.4,
        f"in height by {height[1] - height[0]:.2g} m": abs(height[1] - height[0]) > 0.02,
        f"in broken bonds: {broken}": abs(broken[1] - broken[0]) > 3,
    }
    return [text for text, wrong in found.items() if wrong]


def stacked(frames: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `apart` compares."""
    return {name: np.array([f[name] for f in frames]) for name in ("position", "bond_state")}


def test_bands_hold_what_rounding_does(whole, tmp_path):
    """Loose blocks a micrometre aside: other bits, inside the bands in which another device is to stay; a millimetre is outside."""
    near, far = play(tmp_path / "near", nudge=1e-6), play(tmp_path / "far", 12, nudge=1e-3)
    assert digests(near) != digests(whole[1]) and not apart(stacked(whole[1]), stacked(near))
    assert any("early" in text for text in apart(stacked(whole[1][:12]), stacked(far)))


@pytest.mark.skipif(not cuda_present(), reason="no CUDA device: `nvidia-smi` finds none")
def test_cuda_repeats_itself_and_agrees_with_the_cpu(whole, tmp_path):
    """On a CUDA device: two processes with two runs each give the same bits; against the CPU the bands of `apart`."""
    saved = tmp_path / "cuda.npz"
    equal([*runs("play", arch="cuda", repeats=2, save=str(saved)), *runs("play", arch="cuda", repeats=2)])
    equal([*runs("crowd", arch="cuda", repeats=2, serial_points=[0]), *runs("crowd", arch="cuda", serial_points=[0])])
    with np.load(saved) as cuda:
        assert not apart(stacked(whole[1]), {name: cuda[name] for name in cuda.files})


@pytest.mark.slow
def test_every_stage_up_to_the_pictures(taichi, tmp_path):
    """A whole shot up to its guides with the dust in them: four threads in another process write the files that two write here."""
    from pipeline.run import run
    from shot.load import shot_load

    tiny, settings = ROOT / "tests" / "shots" / "tiny_wall.toml", ["frames=3", "refine.backend=none"]
    run(shot_load(tiny, settings), None, "draw", root=tmp_path / "two")
    environment = os.environ | {"DEMOLISH_THREADS": "4", "DEMOLISH_CACHE": str(tmp_path / "four"), "PYTHONPATH": str(ROOT)}
    options = [x for setting in settings for x in ("-s", setting)]
    command = [sys.executable, "-P", str(ROOT / "cli.py"), "run", str(tiny), "--to", "draw", "-q", *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    two, four = ({str(p.relative_to(tmp_path / n)): p.read_bytes() for p in (tmp_path / n).rglob("*.npz")} for n in ("two", "four"))
    assert two == four and len({name.split("/")[0] for name in two}) == 8


@pytest.mark.slow
@pytest.mark.parametrize("what", ["play", "crowd"])
def test_matrix(what, record_property):
    """1, 2 and 4 threads, sweeps serial and parallel."""
    found = [run for threads in (1, 2, 4) for run in runs(what, threads, serial_points=[40_000, 0] if what == "play" else [0])]
    equal(found)
    record_property("runs with the same bits", len(found))


@pytest.mark.slow
def test_kernels_cold_and_warm(tmp_path):
    """Kernels that were compiled now, and those that were found in the cache."""
    cold = runs("play", cache=tmp_path / "kernels", frames=14)
    files = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "kernels").rglob("*.tic")}
    assert len(files) > 5
    equal(cold + runs("play", cache=tmp_path / "kernels", frames=14))
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "kernels").rglob("*.tic")} == files  # nothing was compiled again


@pytest.mark.slow
def test_the_float_atomic_is_the_same_sum(crowded):
    """On one thread the atomics keep every bit: what the mutation changes is the order, nothing else."""
    equal([crowded, *runs("crowd", 1, change="atomic")])
