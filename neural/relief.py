"""Shading by relief finer than any mesh: what pitted concrete, brick joints, fresh breaks and gravel do to light.

In: per pixel the normal, the rest position, the turn of the piece, light and how rough the surface is. Out: (H, W, 3) the
factor on the radiance of the smooth surface. The height is self-affine (Hurst exponent 0.8, six octaves of value noise from
0.64 m down, fixed to the rest position); its slope tilts the normal (Blinn 1978, "Simulation of wrinkled surfaces"),
hollows see less sky. Octaves shorter than a pixel fade out, so that the mean colour of far surfaces stays. It stands to the
training references as weathering does: a ratio at the first hit. The raster draws smooth faces; no guide says where a pit
is, only how rough a face may be. Not handled: shadows of one bump on another.
"""

from __future__ import annotations

import numpy as np

from shot.hashing import hashed

HURST, OCTAVES, WAVE_LONGEST = 0.8, 6, 0.48  # [m]
RATIO = 2.5  # most that relief may brighten or darken
CAVITY = 0.3  # share of the sky that a deviation of height hides or shows


def relief_ratio(
    normal: np.ndarray, rest: np.ndarray, turn: np.ndarray, rough: np.ndarray, longest: np.ndarray, footprint: np.ndarray,
    sun: np.ndarray, sun_light: np.ndarray, ambient, seed: int,
) -> np.ndarray:
    """(N, 3) factor.

    normal (N, 3) world, rest (N, 3) [m], turn (N, 3, 3) rest to world, rough (N) slope of all octaves, longest (N) wave [m],
    footprint (N) of a pixel [m], sun (3), sun_light (N, 3) sun irradiance over pi after shadow, ambient a function of normals (N, 3)."""
    height, slope = heights(rest, longest, footprint, seed)
    slope = np.einsum("nij,nj->ni", turn, slope)
    slope -= (slope * normal).sum(1, keepdims=True) * normal
    tilted = normal - rough[:, None] * slope
    tilted /= np.linalg.norm(tilted, axis=1, keepdims=True)
    hollow = 1 + CAVITY * np.clip(2.5 * rough * height, -1, 1)[:, None]
    bumpy = sun_light * np.maximum(tilted @ sun, 0)[:, None] + ambient(tilted) * hollow
    smooth = sun_light * np.maximum(normal @ sun, 0)[:, None] + ambient(normal)
    return np.clip(bumpy / np.maximum(smooth, 1e-6), 1 / RATIO, RATIO)


def heights(rest: np.ndarray, longest: np.ndarray, footprint: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Height (N) in deviations and slope (N, 3) of a surface whose slope over all octaves up to WAVE_LONGEST has deviation 1."""
    share = np.array([2.0 ** (k * (1 - HURST)) for k in range(OCTAVES)])
    share /= np.linalg.norm(share)
    height, slope = np.zeros(len(rest)), np.zeros_like(rest)
    deep = np.array([2.0 ** (-k * HURST) for k in range(OCTAVES)])
    deep /= np.linalg.norm(deep)
    for octave in range(OCTAVES):
        wave = WAVE_LONGEST / 2**octave
        seen = np.clip(wave / footprint - 1, 0, 1) * (wave <= longest)
        rows = np.flatnonzero(seen)
        if len(rows):
            value, gradient = noise_gradient(rest[rows] / wave, seed, octave)
            height[rows] += seen[rows] * deep[octave] * value
            slope[rows] += (seen[rows] * share[octave])[:, None] * gradient
    return height, slope


def noise_gradient(x: np.ndarray, seed: int, octave: int) -> tuple[np.ndarray, np.ndarray]:
    """Value noise of points (N, 3), deviation about 1, and its gradient scaled so that a component has deviation about 1."""
    base = np.floor(x).astype(np.int64)
    f = x - base
    w, dw = f * f * (3 - 2 * f), 6 * f * (1 - f)
    value, gradient = np.zeros(len(x)), np.zeros_like(x)
    for corner in np.ndindex(2, 2, 2):
        cell = base + corner
        key = (cell[:, 0] * 73856093) ^ (cell[:, 1] * 19349663) ^ (cell[:, 2] * 83492791)
        lattice = (hashed(seed, "relief", key, octave) >> np.uint64(11)) * 2.0**-52 - 1
        side = np.where(corner, w, 1 - w)
        rise = np.where(corner, dw, -dw)
        value += lattice * side.prod(1)
        for k in range(3):
            others = side[:, (k + 1) % 3] * side[:, (k + 2) % 3]
            gradient[:, k] += lattice * rise[:, k] * others
    return value / 0.37, gradient / 0.665
