"""Boxes with prescribed motion and a hand-written log: what the debris stages read, without a solver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from shot.frames import FrameFolder
from shot.results import GROUND, Bonds, Fragments, Motion

CORNER = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
QUAD = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
FACE = np.concatenate([QUAD[:, [0, 1, 2]], QUAD[:, [0, 2, 3]]])


def boxes(centre: ArrayLike, side: ArrayLike, density: float = 2400.0, material: tuple[str, ...] = ("concrete",)) -> Fragments:
    """Fragments (F) that are boxes: centres (F, 3), sides (F, 3) [m]; material i % len(material)."""
    centre, side = np.asarray(centre, float), np.asarray(side, float)
    n = len(centre)
    vertex = (CORNER[None] * side[:, None]).astype(np.float32)
    volume = side.prod(axis=1)
    square = side**2
    inertia = np.stack([np.diag(density * v * (s.sum() - s) / 12.0) for v, s in zip(volume, square, strict=True)])
    return Fragments(
        position=centre, volume=volume, mass=density * volume, inertia=inertia, size=np.cbrt(volume).astype(np.float32),
        member=np.arange(n, dtype=np.int32), kind=np.zeros(n, np.int8), element=np.zeros(n, np.int32),
        material=(np.arange(n) % len(material)).astype(np.int16),
        vertex=vertex.reshape(-1, 3), vertex_start=np.arange(0, 8 * n + 1, 8, dtype=np.int32),
        face=np.tile(FACE, (n, 1)).astype(np.int32), face_start=np.arange(0, 12 * n + 1, 12, dtype=np.int32),
        face_interior=np.zeros(12 * n, bool), hull_vertex=vertex.reshape(-1, 3),
        hull_vertex_start=np.arange(0, 8 * n + 1, 8, dtype=np.int32), hull_fragment=np.arange(n, dtype=np.int32),
        material_name=material, element_name=("box",),
    )  # fmt: skip


def chain(fragments: Fragments, area: float = 0.2, fracture_energy: float = 100.0) -> Bonds:
    """A bond (F) from each fragment to the next, the last one to the ground: vertical, square, of one area."""
    n = fragments.count
    a = np.arange(n, dtype=np.int32)
    one = np.ones(n)
    half = 0.5 * np.sqrt(area)
    return Bonds(
        fragment_a=a, fragment_b=np.where(a + 1 < n, a + 1, GROUND).astype(np.int32), area=area * one, centroid=fragments.position + 0.0,
        normal=np.tile([0.0, 1.0, 0.0], (n, 1)), axis=np.tile([1.0, 0.0, 0.0], (n, 1)),
        second_moment=np.full((n, 2), area**2 / 12), reach=np.full((n, 2), half), length=one, young=30e9 * one, shear=12.5e9 * one,
        tension=3e6 * one, compression=30e6 * one, cohesion=4.7e6 * one, friction=0.75 * one, fracture_energy=fracture_energy * one,
        steel=0 * one, joint=np.zeros(n, bool),
    )  # fmt: skip


def frame_arrays(
    position: np.ndarray, rotation: np.ndarray | None = None, velocity: np.ndarray | None = None, **log
) -> dict[str, np.ndarray]:
    """One Motion frame: poses, and whatever part of the log is given."""
    n = len(position)
    arrays = {
        "position": np.asarray(position, np.float32),
        "rotation": np.tile([1, 0, 0, 0], (n, 1)).astype(np.float32) if rotation is None else np.asarray(rotation, np.float32),
        "velocity": np.zeros((n, 3), np.float32) if velocity is None else np.asarray(velocity, np.float32),
        "angular_velocity": np.zeros((n, 3), np.float32), "cluster": np.arange(n, dtype=np.int32), "asleep": np.zeros(n, bool),
        "bond_state": np.zeros(0, np.uint8), "bond_damage": np.zeros(0, np.float16),
        "break_time": np.zeros(0), "break_bond": np.zeros(0, np.int32), "break_energy": np.zeros(0, np.float32),
        "break_position": np.zeros((0, 3), np.float32), "break_normal": np.zeros((0, 3), np.float32),
        "break_velocity": np.zeros((0, 3), np.float32),
        "impact_time": np.zeros(0), "impact_fragment": np.zeros((0, 2), np.int32), "impact_position": np.zeros((0, 3), np.float32),
        "impact_normal": np.zeros((0, 3), np.float32), "impact_impulse": np.zeros(0, np.float32),
        "impact_energy": np.zeros(0, np.float32), "impact_velocity": np.zeros((0, 3), np.float32),
        "crush_time": np.zeros(0), "crush_fragment": np.zeros(0, np.int32), "crush_energy": np.zeros(0, np.float32),
        "ledger": np.zeros(len(Motion.LEDGER)), "hash": np.array(0, np.uint64),
    }  # fmt: skip
    unknown = set(log) - set(arrays)
    assert not unknown, unknown
    return {**arrays, **{name: np.asarray(value, arrays[name].dtype) for name, value in log.items()}}


def motion_write(path: Path, frames: list[dict[str, np.ndarray]], first: int = 1001) -> Motion:
    """A Motion whose frames are given, from the first on."""
    folder = FrameFolder(path)
    for k, arrays in enumerate(frames):
        folder.put_frame(first + k, arrays, level=0)
    return Motion(folder)
