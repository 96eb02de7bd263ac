"""Training pairs of the dust upsampler: small collapses run on the coarse grid and, four times finer, guided by it.

In: a folder and seeds. Out: one folder per seed with the coarse frames of the stage and `fine` (4 nx, 4 ny, 4 nz) f32 [kg] in each.
A free fine run parts from the coarse one within ten frames and then teaches nothing cell by cell; so after every frame the fine air
takes over the coarse grid's velocity at the coarse scale, and the fine dust the coarse cells' mass. What stays its own is what
the upsampler has to invent: structure below the coarse cell, from the same solver, the same pieces and the same events.

    python -m sim.dust_pairs train/dust 1 2 3

Seeds and solver regenerate the data bit by bit; finished seeds are skipped. Not handled: real buildings (boxes stand for them).
"""
# pyright: reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom

from shot.device import taichi_open
from shot.frames import FrameFolder
from shot.hashing import normal, uniform
from shot.params import Shot
from shot.results import Fragments, Motion, Seeds, Shed
from sim import air
from sim.air import Grid
from sim.dust import (
    State,
    boxes_of,
    frame_arrays,
    frame_seeds,
    frame_step,
    grid_around,
    source_of,
    state_make,
    work_make,
)

FACTOR = 4
FRAMES = 40
CELLS = 16  # of the coarse grid, each way


def main(arguments: list[str]) -> None:
    """Make the pairs of the seeds named after the folder."""
    taichi_open("cpu")
    for seed in map(int, arguments[1:]):
        folder = FrameFolder(Path(arguments[0]) / f"{seed:04d}")
        shot = shot_of(seed)
        if folder.frames_done(shot.frame_range) < FRAMES:
            pairs_make(shot, folder)
        print(f"pairs: seed {seed} done", flush=True)


def pairs_make(shot: Shot, folder: FrameFolder) -> None:
    """Run one collapse coarse and fine side by side and publish every frame."""
    with tempfile.TemporaryDirectory() as scratch:
        fragments, motion, shed = collapse(shot, Path(scratch))
        whole = grid_around(fragments, shot.dust.cell, shot.dust.margin)
        low = whole.origin + 0.5 * whole.cell * (np.array(whole.shape) - CELLS) * np.array([1.0, 0.0, 1.0])
        coarse = Grid(low, whole.cell, (CELLS,) * 3)
        fine = Grid(low, whole.cell / FACTOR, (FACTOR * CELLS,) * 3)
        boxes = boxes_of(fragments)
        run = [(grid, state_make(grid, shot.dust.wind, shot.first - 1), work_make(grid)) for grid in (coarse, fine)]
        folder.put("grid", {"origin": coarse.origin, "cell": np.array(coarse.cell), "shape": np.array(coarse.shape, np.int32)})
        for frame in shot.frame_range:
            before, after = motion.frame(max(frame - 1, shot.first)), motion.frame(frame)
            emitted = frame_seeds(shed, shot.first, frame)
            for grid, state, work in run:
                frame_step(shot, grid, boxes, source_of(emitted, grid, 1.0), before, after, state, work, frame)
            fine_guide(coarse, run[0][1], fine, run[1][1])
            arrays = frame_arrays(coarse, *run[0][1:])
            folder.put_frame(frame, {**arrays, "fine": fine.cells(run[1][1].mass).astype(np.float32)})


def shot_of(seed: int) -> Shot:
    """A shot whose scale, wind and dust load are drawn from the seed."""
    u = uniform(seed, "pairs shot", np.arange(4))
    wind = (3.0 * (u[0] - 0.5), 0.0, 3.0 * (u[1] - 0.5))
    # all that enters the data is said here, so that a changed default of the product leaves the pairs as they are
    return Shot.model_validate({"seed": seed, "first": 1001, "frames": FRAMES, "fps": 24.0, "sim": {"gravity": 9.81}, "dust": {
        "cell": 0.7 + 0.5 * u[2], "margin": 3.0, "wind": wind, "settle": 0.08, "buoyancy": 0.3, "turbulence": 1.0, "iterations": 60}})


def collapse(shot: Shot, scratch: Path) -> tuple[Fragments, Motion, Shed]:
    """A stack of slabs in pieces that give way storey by storey, turn, fall to a heap and shed dust as they part and land."""
    seed, cell = shot.seed, shot.dust.cell
    u = uniform(seed, "pairs stack", np.arange(4))
    storeys, side = 2 + int(3 * u[0]), 2 + int(2 * u[1])
    piece, rise = cell * (1.6 + 0.8 * u[2]), cell * 1.7
    at = np.array([[x - 0.5 * (side - 1), y, z - 0.5 * (side - 1)] for y in range(storeys) for x in range(side) for z in range(side)])
    centre = at * [piece, rise, piece] + [0.0, rise, 0.0]
    count, index = len(at), np.arange(len(at))
    size = np.tile([0.97 * piece, 0.25 * cell, 0.97 * piece], (count, 1))
    fragments = boxes_fragments(centre, size)
    start = 0.04 + 0.12 * uniform(seed, "pairs start", index)
    rest = cell * (0.2 + 0.3 * at[:, 1])
    drift = cell * np.stack([normal(seed, f"pairs drift {a}", index) for a in range(2)], 1)
    axis = np.stack([normal(seed, f"pairs axis {a}", index) for a in range(3)], 1)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    turn = 0.8 * normal(seed, "pairs turn", index)
    folder, g = FrameFolder(scratch / "motion"), 9.81 * 0.8
    for frame in shot.frame_range:
        t = np.maximum((frame - shot.first) / shot.fps - start, 0.0)
        position = centre.copy()
        position[:, 1] = np.maximum(centre[:, 1] - 0.5 * g * t * t, rest)
        way = ((centre[:, 1] - position[:, 1]) / (centre[:, 1] - rest))[:, None]
        position[:, [0, 2]] += drift * way**2
        half = 0.5 * turn[:, None] * way
        rotation = np.concatenate([np.cos(half), np.sin(half) * axis], 1)
        folder.put_frame(frame, {"position": position.astype(np.float32), "rotation": rotation.astype(np.float32)})
    land = start + np.sqrt(2.0 * (centre[:, 1] - rest) / g)
    below = np.stack([centre[:, 0] + drift[:, 0], rest, centre[:, 2] + drift[:, 1]], 1)
    puffs, spread = 3, piece * 0.35
    time = np.concatenate([np.repeat(start, puffs), np.repeat(land, puffs)])
    number = np.arange(len(time))
    jitter = np.stack([normal(seed, f"pairs puff {a}", number) for a in range(3)], 1)
    place = np.concatenate([np.repeat(centre, puffs, 0), np.repeat(below, puffs, 0)]) + spread * jitter * [1.0, 0.2, 1.0]
    place[:, 1] = np.maximum(place[:, 1], 0.1 * cell)
    velocity = np.stack([1.5 * normal(seed, f"pairs blow {a}", number) for a in range(3)], 1)
    mass = 0.02 * cell**3 * np.exp(normal(seed, "pairs mass", number)) * np.where(number < puffs * count, 0.4, 1.0)
    order = np.argsort(time, kind="stable")
    radius = cell * (0.3 + 0.5 * uniform(seed, "pairs radius", number))
    seeds = dust_seeds(*(a[order] for a in (time, place, velocity, radius, mass)))
    return fragments, Motion(folder), shed_write(FrameFolder(scratch / "shed"), seeds, shot)


def fine_guide(coarse: Grid, above: State, fine: Grid, below: State) -> None:
    """Give the fine air the coarse velocity at the coarse scale, and the fine dust the coarse mass; in place."""
    speeds = []
    for grid, state in ((coarse, above), (fine, below)):
        out = np.zeros((*grid.shape, 3), np.float32)
        air.centre_velocity(*grid.shape, state.u, state.v, state.w, out)
        speeds.append(out)
    for axis, face in enumerate((below.u, below.v, below.w)):
        push = _up(speeds[0][..., axis] - _down(speeds[1][..., axis]) / FACTOR**3)
        padded = np.pad(push, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        low, high = np.take(padded, range(push.shape[axis] + 1), axis), np.take(padded, range(1, push.shape[axis] + 2), axis)
        inside = tuple(slice(1, n + 1 + (a == axis)) for a, n in enumerate(fine.shape))
        face.reshape(fine.padded)[inside] += 0.5 * (low + high)
    below.v.reshape(fine.padded)[:, 1] = 0.0
    c, mass = coarse.cells(above.mass), fine.cells(below.mass)
    s = _down(mass)
    smooth = mass * _up(np.where(s > c, c / np.maximum(s, 1e-300), 1.0)) + _up(np.maximum(c - s, 0.0)) / FACTOR**3
    total = _down(smooth)
    mass[:] = smooth * _spread(np.where(total > 0.0, c / np.maximum(total, 1e-300), 0.0))


def _down(fine: np.ndarray) -> np.ndarray:
    x, y, z = (n // FACTOR for n in fine.shape)
    return fine.reshape(x, FACTOR, y, FACTOR, z, FACTOR).sum((1, 3, 5))


def _spread(coarse: np.ndarray) -> np.ndarray:
    for axis in range(3):
        coarse = np.repeat(coarse, FACTOR, axis)
    return coarse


def _up(coarse: np.ndarray) -> np.ndarray:
    return np.asarray(zoom(coarse, FACTOR, order=1, mode="nearest", grid_mode=True))


def dust_seeds(time: np.ndarray, place: np.ndarray, velocity: np.ndarray, radius: np.ndarray, mass: np.ndarray) -> Seeds:
    """Seeds that hold dust and nothing else."""
    none, rows = np.zeros(0), np.zeros((0, 3), np.float32)
    return Seeds(
        time=none, position=rows, velocity=rows, spin=rows, radius=none.astype(np.float32), weight=none.astype(np.float32),
        material=none.astype(np.int16), source=none.astype(np.int32), dust_time=time, dust_position=place.astype(np.float32),
        dust_velocity=velocity.astype(np.float32), dust_radius=radius.astype(np.float32), dust_mass=mass,
        event_energy=none, event_mass=none)


def shed_write(folder: FrameFolder, seeds: Seeds, shot: Shot) -> Shed:
    """Seeds of a whole shot, sorted by time, as the frames of a Shed: an event at a frame's own time belongs to it."""
    edge = (np.arange(shot.frames) + 1e-6) / shot.fps
    pieces, dust = np.searchsorted(seeds.time, edge), np.searchsorted(seeds.dust_time, edge)
    for k, frame in enumerate(shot.frame_range):
        rows = {"piece": slice(pieces[k - 1] if k else 0, pieces[k]), "dust": slice(dust[k - 1] if k else 0, dust[k])}
        folder.put_frame(frame, {
            field.name: getattr(seeds, field.name)[rows["dust" if field.name.startswith(("dust_", "event_")) else "piece"]]
            for field in fields(Seeds)})
    return Shed(folder)


def boxes_fragments(centre: np.ndarray, size: np.ndarray) -> Fragments:
    """Concrete boxes (F, 3) at rest; they have hulls, but no faces to draw."""
    count, volume, none = len(centre), size.prod(1), np.zeros(len(centre), np.int32)
    corner = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    vertex = (corner[None] * size[:, None]).astype(np.float32).reshape(-1, 3)
    start = np.arange(count + 1, dtype=np.int32) * 8
    return Fragments(
        position=centre, volume=volume, mass=2400.0 * volume, inertia=np.tile(np.eye(3), (count, 1, 1)),
        size=np.cbrt(volume).astype(np.float32), member=none, kind=none.astype(np.int8), element=none, material=none.astype(np.int16),
        vertex=vertex, vertex_start=start, face=np.zeros((0, 3), np.int32), face_start=np.zeros(count + 1, np.int32),
        face_interior=np.zeros(0, bool), hull_vertex=vertex, hull_vertex_start=start, hull_fragment=np.arange(count, dtype=np.int32),
        material_name=("concrete",), element_name=("slab",))


if __name__ == "__main__":
    main(sys.argv[1:])
