"""A collapse in small with everything in it: loose blocks that sleep, a frame that is cut, hinges, breaks, falls on them and comes to rest.

Shared by tests/test_determinism.py, its child processes and tests/test_bad_states.py.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from shot.frames import Arrays, FrameFolder
from shot.params import Event, Material, Materials, Shot, Sim
from shot.results import BOND_BROKEN, BOND_HINGED, MEMBER_KINDS, Bonds, Fragments, Progress, progress_silent
from tests.structures import _structure, _touching

FRAMES = 30
LOOSE = 22  # first of the loose blocks
TASK = 512  # iterations
COLUMN, BEAM = MEMBER_KINDS.index("column"), MEMBER_KINDS.index("beam")
MATERIAL = Material(tension=0.5e6, cohesion=0.8e6, compression=2e6, fracture_energy=30, steel=0.0006)


def scene() -> tuple[Fragments, Bonds]:
    """Two portals with a deck of two beams between them, and twelve loose blocks below, a few millimetres above the ground."""
    corners, kind = [], []

    def put(lower, upper, what):
        corners.append((lower, upper))
        kind.append(what)

    for z in (0.0, 1.4):
        for x in (0.0, 2.0):
            put((x, 0.0, z), (x + 0.3, 0.5, z + 0.3), COLUMN)
            put((x, 0.5, z), (x + 0.3, 1.0, z + 0.3), COLUMN)
            put((x, 1.0, z), (x + 0.3, 1.3, z + 0.3), BEAM)
        for k in range(3):
            put((0.3 + 1.7 * k / 3, 1.0, z), (0.3 + 1.7 * (k + 1) / 3, 1.3, z + 0.3), BEAM)
    for x in (0.0, 2.0):
        for k in range(2):
            put((x, 1.0, 0.3 + 0.55 * k), (x + 0.3, 1.3, 0.85 + 0.55 * k), BEAM)
    frame = len(kind)
    for k in range(12):
        x, z = 0.5 + 0.4 * (k % 4), 0.2 + 0.55 * (k // 4)
        put((x, 0.003, z), (x + 0.24, 0.203, z + 0.22), COLUMN)
    lower, upper = np.array(corners).transpose(1, 0, 2)
    centre, size = (lower + upper) / 2, upper - lower
    lowest = centre[:, 1] - size[:, 1] / 2
    grounded = (np.arange(len(centre)) < frame) & (lowest < 1e-9)
    return _structure(centre, size, _touching(centre[:frame], size[:frame]), MATERIAL, np.array(kind), True, grounded)


def shot(frames: int = FRAMES, **sim) -> Shot:
    """The feet of one side are cut when the loose blocks sleep; every frame can be resumed from."""
    cut = Event(frame=1007, lower=(-9, -0.05, -9), upper=(0.4, 0.7, 9), members=("column",))
    push = Event(kind="push", frame=1008, frames=6, lower=(-9, 0.9, -9), upper=(9, 9, 9), members=("beam",), force=(-16.0, -40.0, 8.0))
    return Shot(
        frames=frames, events=(cut, push), materials=Materials(concrete=MATERIAL),
        sim=Sim(**({"checkpoint": 1, "sleep_time": 0.15, "sleep_speed": 0.2, "contact_iterations": 8, "hinge_rotation": 0.15} | sim)),
    )


def play(
    folder: Path, frames: int = FRAMES, progress: Progress = progress_silent, nudge: float = 0.0, **sim
) -> list[Arrays]:
    """Simulate in `folder`; all frames in order. The loose blocks start `nudge` [m] aside."""
    from sim.simulate import simulate

    asked = shot(frames, **sim)
    fragments, bonds = scene()
    fragments.position[LOOSE:] += nudge
    motion = simulate(asked, fragments, bonds, FrameFolder(folder), asked.frame_range, progress)
    return [motion.frame(f) for f in asked.frame_range]


def crowd(steps: int = 12) -> list[str]:
    """One hash a step over the whole state of 1 400 tilted blocks that drop on a plate and on each other.

    Taichi 1.7 hands out parallel loops in tasks of TASK on the CPU, whatever block_dim says: bodies of a colour and rows come to more."""
    import sim.solve
    from bench.contact import Scene, boxes, place
    from sim.column import column_read
    from sim.state import world_save
    from sim.world import Settings

    count, draw = 700, np.random.default_rng(5)
    x, z = 0.4 * (np.arange(count) % 28), 0.4 * (np.arange(count) // 28)
    low = np.stack([x, np.full(count, 0.325), z], axis=1)
    position = np.concatenate([low, low + [0.03, 0.23, 0.02], [[5.4, 0.1, 4.8]]])
    q = np.concatenate([np.ones((2 * count, 1)), 0.05 * draw.normal(size=(2 * count, 3))], axis=1)
    q = np.concatenate([q / np.linalg.norm(q, axis=1, keepdims=True), [[1, 0, 0, 0]]])
    half = np.concatenate([np.full((2 * count, 3), 0.1), [[6.0, 0.1, 5.5]]])
    fixed = np.arange(2 * count + 1) == 2 * count
    world = place(Scene(boxes(position, half), q, np.where(fixed[:, None], 0.0, [[0.2, -2.0, 0.1]]), np.arange(2 * count + 1), fixed))
    found = []
    for _ in range(steps):
        sim.solve.contact_step(world, 1 / 60, Settings(9.81, 6, 0.6, 0.05, 0.1))
        found += digests([world_save(world)])
    assert world.work is not None
    ends = column_read(world.work.array["colour_start"])
    assert np.diff(ends).max() > TASK and world.contact_count > TASK, "too few blocks for a second thread to have anything to do"
    return found


def digests(frames: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    """One hash a frame over all of it: poses, velocities, bonds, records, ledger, and the hash of the solver's whole state."""
    found = []
    for arrays in frames:
        digest = hashlib.blake2b(digest_size=8)
        for name in sorted(arrays):
            digest.update(f"{name}{arrays[name].dtype}{arrays[name].shape}".encode())
            digest.update(np.ascontiguousarray(arrays[name]).tobytes())
        found.append(digest.hexdigest())
    return found


def seen(frames: Sequence[Mapping[str, np.ndarray]]) -> dict[str, int]:
    """How often the things that a solver can get out of order happened."""
    cut = next(k for k, f in enumerate(frames) if len(f["break_bond"]))
    asleep = np.array([f["asleep"] for f in frames])
    clusters = [len(np.unique(f["cluster"])) for f in frames]
    final = frames[-1]
    return {
        "impacts": sum(len(f["impact_time"]) for f in frames),
        "crushes": sum(len(f["crush_time"]) for f in frames),
        "hinges": int(max((f["bond_state"] == BOND_HINGED).sum() for f in frames)),
        "broken later": int((final["bond_state"] == BOND_BROKEN).sum() - (frames[cut]["bond_state"] == BOND_BROKEN).sum()),
        "splits": sum(after > before for before, after in zip(clusters, clusters[1:], strict=False)),
        "fell asleep": int((~asleep[:-1] & asleep[1:]).sum()),
        "woken": int((asleep[:-1] & ~asleep[1:]).sum()),
        "loose": int((np.unique(final["cluster"], return_counts=True)[1] == 1).sum()),
    }


def main() -> None:
    """Child process of tests/test_determinism.py: play as asked, print the digests of each run."""
    asked = json.loads(sys.argv[1])
    from shot.device import taichi_open

    taichi_open(asked.get("arch", "cpu"), threads=asked.get("threads", 2))
    import sim.solve
    from tests.solver_changes import change

    change(asked.get("change", ""))
    runs = []
    for points in asked.get("serial_points", [sim.solve.SERIAL_POINTS]):
        sim.solve.SERIAL_POINTS = points
        for _ in range(asked.get("repeats", 1)):
            if asked["what"] == "crowd":
                runs.append(crowd())
                continue
            with tempfile.TemporaryDirectory() as folder:
                frames = play(Path(folder), asked.get("frames", FRAMES))
            runs.append(digests(frames))
            if "save" in asked:
                np.savez(asked["save"], position=[f["position"] for f in frames], bond_state=[f["bond_state"] for f in frames])
    print("runs", json.dumps(runs))


if __name__ == "__main__":
    main()
