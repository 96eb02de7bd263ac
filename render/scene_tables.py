"""Per-body tables that shaders and post passes look up by id: materials, tones, poses, ages, rock shapes.

In: Fragments, the Seeds shed so far, and single frames of Motion and Debris. Out: float32 tables in the layouts of `shaders/`.
A body is anything with an id: body b has id b + 1, so fragments are bodies 0..F-1, the ground is body F and debris piece p
is body F + 1 + p. Pure numpy. Debris pieces share a few hashed convex shapes; a piece's shape never changes over the shot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from scipy.spatial import ConvexHull

from shot import hashing, rotation
from shot.entering import entered
from shot.params import Shot
from shot.results import GROUND, Bonds, Fragments, Seeds

SURFACES = {"concrete": 1, "plain": 1, "brick": 2, "facade": 3, "steel": 0}  # pattern of outer faces, see shaders/weathering.glsl
GROUND_SURFACE = 4
AGE_NEVER = 60.0  # [s] age of a surface that never opened, and the largest age told
ROCK_POINTS = (6, 6, 9, 9, 9, 14, 14, 14)  # points per rock shape; small pieces take the first ones
ROCK_FINE = 0.04  # [m] smaller pieces use the two cheapest shapes


def material_table(shot: Shot, names: tuple[str, ...]) -> np.ndarray:
    """(M + 1, 8) f32: outer albedo, surface pattern, inner albedo, 0; the last row is the ground."""
    table = np.zeros((len(names) + 1, 8), np.float32)
    for row, name in zip(table, names, strict=False):
        material = getattr(shot.materials, name)
        row[:] = (*material.albedo, SURFACES.get(name, 1), *material.albedo_inside, 0)
    table[-1] = (*shot.look.ground, GROUND_SURFACE, *shot.look.ground, 0)
    return table


def body_table(shot: Shot, fragments: Fragments, seeds: Seeds | None) -> np.ndarray:
    """(B, 8) f32: rest position, tone, material row, element seed in 0..1, 0, 0. Tone is a factor near 1 on the albedo."""
    count = fragments.count
    table = np.zeros((body_count(fragments, seeds), 8), np.float32)
    element_tone = 1 + 0.14 * (hashing.uniform(shot.seed, "draw/element tone", np.arange(len(fragments.element_name) + 1)) - 0.5)
    table[:count, :3] = fragments.position
    table[:count, 3] = element_tone[fragments.element]
    table[:count, 4] = fragments.material
    table[:count, 5] = hashing.uniform(shot.seed, "draw/element", fragments.element)
    table[count, 3:5] = (1, len(fragments.material_name))
    if seeds is not None:
        pieces = np.arange(len(seeds.radius))
        table[count + 1:, :3] = seeds.position  # a loose piece rests where it was shed
        table[count + 1:, 3] = 0.8 + 0.35 * hashing.uniform(shot.seed, "draw/debris tone", pieces)
        table[count + 1:, 4] = seeds.material
        table[count + 1:, 5] = hashing.uniform(shot.seed, "draw/debris", pieces)
    return table


def body_count(fragments: Fragments, seeds: Seeds | None) -> int:
    """Fragments, the ground and all debris pieces."""
    return fragments.count + 1 + (0 if seeds is None else len(seeds.radius))


class Frames(Protocol):
    """Motion or Debris, or what stands for them."""

    def frame(self, frame: int) -> Mapping[str, np.ndarray]:
        """Arrays of one frame."""
        ...


class Recent:
    """A streamed result whose last frames stay in memory: each is read three times, as after, now and before."""

    def __init__(self, source: Frames):
        self._read = lru_cache(maxsize=3)(source.frame)

    def frame(self, frame: int) -> Mapping[str, np.ndarray]:
        """Arrays of one frame."""
        return self._read(frame)


@dataclass(frozen=True)
class Poses:
    """World placement of every body at one frame: p = linear @ local + position."""

    linear: np.ndarray  # (B, 3, 3) f64, rotation times scale
    position: np.ndarray  # (B, 3) f64 [m]
    alive: np.ndarray  # (P) bool debris pieces there to be drawn


def body_poses(shot: Shot, fragments: Fragments, motion: Frames, seeds: Seeds | None, debris: Frames | None, frame: int,
               born: np.ndarray | None = None) -> Poses:
    """Poses at a frame, clamped to the shot. What is not there yet but in the next frame (pieces `born`,
    bodies that come in) is carried back by its velocity; without `born` nothing is."""
    clamped = min(max(frame, shot.first), shot.first + shot.frames - 1)
    arrays = motion.frame(clamped)
    if born is not None and clamped < shot.first + shot.frames - 1:
        arrays = entered(arrays, motion.frame(clamped + 1), 1.0 / shot.fps)
    count = fragments.count
    linear = np.zeros((body_count(fragments, seeds), 3, 3))
    position = np.zeros((len(linear), 3))
    linear[:count] = rotation.matrix(arrays["rotation"])
    position[:count] = arrays["position"]
    linear[count] = np.eye(3)
    alive = np.zeros(len(linear) - count - 1, bool)
    if seeds is not None and debris is not None and len(alive):
        pieces, radius = debris.frame(clamped), np.asarray(seeds.radius, float)[:, None, None]
        there = np.arange(min(len(pieces["alive"]), len(alive)))  # an earlier frame holds fewer, a later one more
        alive[there] = pieces["alive"][there]
        linear[count + 1 + there] = rotation.matrix(pieces["rotation"][there]) * radius[there]
        position[count + 1 + there] = pieces["position"][there]
        if born is not None and len(late := np.flatnonzero(born & ~alive)):
            after = debris.frame(min(clamped + 1, shot.first + shot.frames - 1))
            linear[count + 1 + late] = rotation.matrix(after["rotation"][late]) * radius[late]
            position[count + 1 + late] = after["position"][late] - after["velocity"][late].astype(float) / shot.fps
    return Poses(linear, position, alive)


def pose_rows(poses: Poses, eye: np.ndarray) -> np.ndarray:
    """(B, 3, 4) f32 rows of body to world, relative to the eye so that float32 keeps its digits far from the origin."""
    rows = np.empty((len(poses.position), 3, 4), np.float32)
    rows[:, :, :3] = poses.linear
    rows[:, :, 3] = poses.position - eye
    return rows


class Breaks:
    """The log of broken bonds, read as far as it has been asked for: frames are mostly asked for in order."""

    def __init__(self, shot: Shot, fragments: Fragments, bonds: Bonds, motion: Frames):
        self._first, self._bonds, self._motion = shot.first, bonds, motion
        self._youngest, self._next = np.full(fragments.count, -np.inf), shot.first

    def youngest(self, frame: int) -> np.ndarray:
        """(F) f64 [s] time of the last bond that each fragment lost until a frame, -inf for none."""
        if frame < self._next - 1:
            self._youngest[:], self._next = -np.inf, self._first
        for late in range(self._next, frame + 1):
            log = self._motion.frame(late)
            bond = log["break_bond"].astype(np.int64)
            for side in (self._bonds.fragment_a[bond], self._bonds.fragment_b[bond]):
                np.maximum.at(self._youngest, side[side != GROUND], log["break_time"][side != GROUND])
        self._next = max(self._next, frame + 1)
        return self._youngest.copy()


def body_ages(shot: Shot, fragments: Fragments, seeds: Seeds | None, broken: np.ndarray, frame: int) -> np.ndarray:
    """(B) f32 [s] since a fragment lost its last bond at the time `broken` (F), or since a piece was shed; AGE_NEVER if never."""
    now = (frame - shot.first) / shot.fps
    youngest = np.full(body_count(fragments, seeds), -np.inf)
    youngest[: fragments.count] = broken
    if seeds is not None:
        youngest[fragments.count + 1:] = seeds.time
    return np.clip(now - youngest, 0, AGE_NEVER).astype(np.float32)


@dataclass(frozen=True)
class Solid:
    """Triangles that share one table of bodies; body is per vertex, or -1 where instances bring it."""

    vertex: np.ndarray  # (V, 3) f32 [m] local
    body: np.ndarray  # (V) i32
    face: np.ndarray  # (T, 3) u32
    normal: np.ndarray  # (T, 4) f32 unit outward normal, 1 for faces made by fracture


def fragment_solid(fragments: Fragments) -> Solid:
    """All render meshes of the fragments as one solid."""
    vertices = np.diff(fragments.vertex_start)
    faces = np.diff(fragments.face_start)
    body = np.repeat(np.arange(fragments.count, dtype=np.int32), vertices)
    face = fragments.face + np.repeat(fragments.vertex_start[:-1], faces)[:, None]
    return Solid(fragments.vertex.astype(np.float32), body, face.astype(np.uint32),
                 face_normals(fragments.vertex, face, fragments.face_interior))


def face_normals(vertex: np.ndarray, face: np.ndarray, interior: np.ndarray) -> np.ndarray:
    """(T, 4) f32 unit normals (0, 1, 0 where a face has no area) with the fracture flag."""
    a, b, c = np.moveaxis(np.asarray(vertex, float)[face], 1, 0)
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = np.where(length > 0, normal / np.maximum(length, 1e-300), [0.0, 1.0, 0.0])
    return np.concatenate([normal, np.asarray(interior, float)[:, None]], 1).astype(np.float32)


def rock_solids(seed: int) -> list[Solid]:
    """Convex rocks of unit equal-volume radius, one per entry of ROCK_POINTS."""
    rocks = []
    for shape, points in enumerate(ROCK_POINTS):
        index = np.arange(points) + 64 * shape
        height = 1 - 2 * (np.arange(points) + 0.5) / points
        angle = np.pi * (1 + 5**0.5) * np.arange(points) + hashing.uniform(seed, "draw/rock turn", shape) * 2 * np.pi
        ring = np.sqrt(1 - height**2)
        cloud = np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], 1)
        cloud *= (0.7 + 0.6 * hashing.uniform(seed, "draw/rock radius", index))[:, None]
        cloud *= [0.75 + 0.7 * float(hashing.uniform(seed, "draw/rock stretch", shape, lane)) for lane in range(3)]
        hull = ConvexHull(cloud)
        inside = cloud.mean(0)
        face = hull.simplices.copy()
        a, b, c = np.moveaxis(cloud[face], 1, 0)
        flipped = np.einsum("ij,ij->i", np.cross(b - a, c - a), a - inside) < 0
        face[flipped] = face[flipped][:, ::-1]
        cloud = (cloud - inside) * (4 / 3 * np.pi / hull.volume) ** (1 / 3)
        rocks.append(Solid(cloud.astype(np.float32), np.full(points, -1, np.int32), face.astype(np.uint32),
                           face_normals(cloud, face, np.ones(len(face)))))
    return rocks


def rock_choice(shot: Shot, seeds: Seeds) -> np.ndarray:
    """(P) shape of each piece: hashed; below ROCK_FINE one of the cheap ones."""
    draw = hashing.uniform(shot.seed, "draw/rock", np.arange(len(seeds.radius)))
    cheap = seeds.radius < ROCK_FINE
    return np.where(cheap, draw * 2, 2 + draw * (len(ROCK_POINTS) - 2)).astype(np.int32)
