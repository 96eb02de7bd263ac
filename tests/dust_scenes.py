"""Pieces, motions and seeds written by hand, for the tests of dust and its upsampler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from shot.frames import FrameFolder
from shot.results import Fragments, Motion, Seeds

FIRST, FPS = 1001, 24.0


def boxes(centre, size) -> Fragments:
    """Concrete boxes of edge lengths `size` (F, 3) at rest at `centre` (F, 3) [m]."""
    from sim.dust_pairs import boxes_fragments

    return boxes_fragments(np.atleast_2d(np.asarray(centre, float)), np.atleast_2d(np.asarray(size, float)))


def moved(path: Path, fragments: Fragments, frames: int, place: Callable[[float], np.ndarray]) -> Motion:
    """A Motion in which the pieces are at place(t) (F, 3) at time t [s], unturned."""
    folder, count = FrameFolder(path), fragments.count
    turn = np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1))
    for frame in range(frames):
        folder.put_frame(FIRST + frame, {"position": np.asarray(place(frame / FPS), np.float32).reshape(count, 3), "rotation": turn})
    return Motion(folder)


def shed(time=(), position=(), velocity=(), radius=(), mass=()) -> Seeds:
    """Seeds of dust only."""
    from sim.dust_pairs import dust_seeds

    place, speed = (np.asarray(a, float).reshape(-1, 3) for a in (position, velocity))
    return dust_seeds(np.asarray(time, float), place, speed, np.asarray(radius, float), np.asarray(mass, float))


def falling_block(path: Path, frames: int) -> tuple[Fragments, Motion, Seeds]:
    """Twelve slabs that fall together, shed dust as they start and where they land: a small collapse."""
    centre = np.array([[x, 2.0 + 2.5 * level, z] for level in range(3) for x in (-2.0, 2.0) for z in (-2.0, 2.0)])
    fragments = boxes(centre, np.tile([3.8, 0.2, 3.8], (12, 1)))
    rest = 0.2 + 0.3 * np.repeat(np.arange(3), 4)

    def place(t: float) -> np.ndarray:
        p = centre.copy()
        p[:, 1] = np.maximum(p[:, 1] - 4.9 * t * t, rest)
        return p

    land = np.sqrt((centre[:, 1] - rest) / 4.9)
    time = np.concatenate([np.full(12, 0.05), land])
    position = np.concatenate([centre, np.stack([centre[:, 0], rest + 0.5, centre[:, 2]], 1)])
    velocity = np.concatenate([np.tile([0.0, -1.0, 0.0], (12, 1)), np.tile([1.5, 2.0, -0.5], (12, 1))])
    order = np.argsort(time, kind="stable")
    mass = np.linspace(0.5, 2.0, 24)
    seeds = shed(time[order], position[order], velocity[order], np.full(24, 0.8), mass)
    return fragments, moved(path, fragments, frames, place), seeds
