"""Plausible poses of a collapsing building without a solver: what the refiner's training pictures show.

In: Fragments, a time, a seed. Out: poses, and when each piece came loose. Kinematics only: a front runs from a hashed place
through the building; blocks of a few metres let go behind it, fall with 0.8 g, drift outwards and spin as one, and their
pieces come to lie on a heap whose height is the volume fallen so far over the area it spread on. Part of the building stays
standing, torn open. Pieces in a heap overlap: good enough to look at, useless as physics; `sim` does that. Training on
staged poses keeps the refiner independent of the solver's state.
"""

from __future__ import annotations

import numpy as np

from shot.hashing import normal, uniform
from shot.results import Fragments
from shot.rotation import multiply, rotate

FALL = 0.8 * 9.81  # [m/s2]
FRONT_SPEED = 14.0  # [m/s]
BLOCK = 3.5  # [m]
BULKING = 1.7  # heap volume over solid volume


def staged_poses(fragments: Fragments, seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (F, 3) [m], rotations (F, 4), loose since (F) [s], inf for what stands."""
    rest = fragments.position
    low, high = rest.min(0), rest.max(0)
    start = low + (high - low) * uniform(seed, "staged/start", np.arange(3)) * [1.0, 0.4, 1.0]
    away = np.linalg.norm((rest - start) * [1.0, 0.6, 1.0], axis=1)
    share = 0.35 + 0.6 * uniform(seed, "staged/share", 0)
    wobble = rest + 0.6 * np.sin(rest[:, [1, 2, 0]] * 1.7 + seed)
    cell = np.floor(wobble / BLOCK).astype(np.int64)
    block = np.unique((cell[:, 0] * 1009 + cell[:, 1]) * 1009 + cell[:, 2], return_inverse=True)[1].reshape(-1)
    count = block.max() + 1
    volume = np.bincount(block, fragments.volume, count)
    centre = np.stack([np.bincount(block, rest[:, k] * fragments.volume, count) / volume for k in range(3)], 1)
    reach = np.bincount(block, away, count) / np.bincount(block, minlength=count)
    ragged = reach * (1 + 0.25 * normal(seed, "staged/ragged", np.arange(count)))
    loose = np.where(ragged < share * away.max(), 0.05 + ragged / FRONT_SPEED, np.inf)
    fallen = np.maximum(seconds - loose, 0.0)
    end = heap_height(centre, volume, loose, seed)
    drop = 0.5 * FALL * fallen**2
    flight = np.sqrt(2 * np.maximum(centre[:, 1] - end, 0.0) / FALL)
    aloft = np.minimum(fallen, flight)
    outward = centre - np.array([*start[:1], 0, *start[2:]])
    outward[:, 1] = 0
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    drift = (0.8 * outward + 0.9 * normal(seed, "staged/drift", np.arange(3 * count)).reshape(-1, 3) * [1, 0, 1]) * aloft[:, None]
    spin = normal(seed, "staged/spin", np.arange(3 * count)).reshape(-1, 3) * np.minimum(0.25 + 0.5 * aloft, 1.2)[:, None] * aloft[:, None]
    position = centre + drift
    position[:, 1] = np.where(np.isfinite(loose), np.maximum(centre[:, 1] - drop, np.minimum(end, centre[:, 1])), centre[:, 1])
    turn = quaternion_of(spin)
    pieces = position[block] + rotate(turn[block], rest - centre[block])
    landed = (fallen >= flight)[block] & np.isfinite(loose)[block]
    own = quaternion_of(0.5 * normal(seed, "staged/settle", np.arange(3 * len(rest))).reshape(-1, 3) * landed[:, None])
    pieces[:, 1] = np.where(np.isfinite(loose)[block], np.maximum(pieces[:, 1], 0.35 * fragments.size), pieces[:, 1])
    return pieces, multiply(own, turn[block]), loose[block]


def heap_height(centre: np.ndarray, volume: np.ndarray, loose: np.ndarray, seed: int) -> np.ndarray:
    """(N) [m] height at which each block comes to lie: blocks land lowest first on columns of 4 m."""
    column = np.floor(centre[:, [0, 2]] / 4.0 + 0.2 * normal(seed, "staged/column", np.arange(2 * len(centre))).reshape(-1, 2)).astype(int)
    key = np.unique(column[:, 0] * 1009 + column[:, 1], return_inverse=True)[1].reshape(-1)
    height = np.zeros(len(centre))
    level = np.zeros(key.max() + 1)
    for n in np.argsort(centre[:, 1], kind="stable"):
        if np.isfinite(loose[n]):
            step = BULKING * volume[n] / 25.0
            height[n] = level[key[n]] + 0.5 * step
            level[key[n]] += step
    return height


def quaternion_of(turn: np.ndarray) -> np.ndarray:
    """Unit quaternions of rotation vectors (N, 3) [rad]."""
    angle = np.linalg.norm(turn, axis=1, keepdims=True)
    return np.concatenate([np.cos(angle / 2), np.sinc(angle / (2 * np.pi)) * turn / 2], axis=1)

