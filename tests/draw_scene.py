"""Small scenes for the tests of drawing: boxes at chosen places, with motion, debris and dust written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from shot import hashing
from shot.frames import FrameFolder
from shot.params import Camera, Look, Shot
from shot.results import MEMBER_KINDS, Bonds, Debris, Dust, Fragments, Motion, Seeds, Shed

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float) / 2
CUBE_FACES = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
                       [1, 5, 7], [1, 7, 3]])
MATERIALS = ("concrete", "brick", "facade")


def shot_small(**changes) -> Shot:
    """A shot of 3 frames at 160 x 96; `changes` are fields of Shot."""
    defaults = {"frames": 3, "camera": Camera(width=160, height=96, position=(6, 3, 9), target=(0, 1.5, 0)),
                "look": Look(shadow_size=512)}
    return Shot(**{**defaults, **changes})


def fragments_of(lower: ArrayLike, upper: ArrayLike, material: np.ndarray, element: np.ndarray | None = None,
                 interior: np.ndarray | None = None) -> Fragments:
    """Boxes (F) with corners lower and upper; `interior` (F, 6) marks faces -x +x -y +y -z +z as made by a cut."""
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    count, size = len(lower), upper - lower
    volume = size.prod(1)
    mass = 2400 * volume
    inertia = np.stack([np.diag(m / 12 * (s @ s - s * s)) for m, s in zip(mass, size, strict=True)])
    element = np.arange(count) if element is None else element
    sides = np.zeros((count, 6), bool) if interior is None else interior
    return Fragments(
        position=(lower + upper) / 2, volume=volume, mass=mass, inertia=inertia, size=np.cbrt(volume).astype(np.float32),
        member=np.asarray(element, np.int32), kind=np.full(count, MEMBER_KINDS.index("wall"), np.int8),
        element=np.asarray(element, np.int32), material=np.asarray(material, np.int16),
        vertex=(CUBE[None] * size[:, None]).reshape(-1, 3).astype(np.float32),
        vertex_start=np.arange(count + 1, dtype=np.int32) * 8, face=np.tile(CUBE_FACES, (count, 1)).astype(np.int32),
        face_start=np.arange(count + 1, dtype=np.int32) * 12, face_interior=sides[:, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]].reshape(-1),
        hull_vertex=(CUBE[None] * size[:, None]).reshape(-1, 3).astype(np.float32),
        hull_vertex_start=np.arange(count + 1, dtype=np.int32) * 8,
        hull_fragment=np.arange(count, dtype=np.int32), material_name=MATERIALS,
        element_name=tuple(f"element{e}" for e in range(int(np.max(element)) + 1)),
    )


def bonds_of(pairs: list[tuple[int, int]]) -> Bonds:
    """Bonds between fragment pairs; only the pairs matter to drawing."""
    a, b = np.array(pairs, np.int32).reshape(-1, 2).T
    one, three, two = np.ones(len(a)), np.ones((len(a), 3)), np.ones((len(a), 2))
    return Bonds(a, b, one, three, three, three, two, two, one, one, one, one, one, one, one, one, one, np.zeros(len(a), bool))


def motion_of(folder: Path, first: int, position: np.ndarray, rotation: np.ndarray | None = None,
              breaks: dict[int, list[tuple[float, int]]] | None = None) -> Motion:
    """Motion with the arrays that drawing reads: position (N, F, 3), rotation (N, F, 4), breaks {frame: [(time, bond)]}."""
    frames = FrameFolder(folder)
    for index in range(len(position)):
        log = (breaks or {}).get(first + index, [])
        turn = np.tile([1.0, 0, 0, 0], (position.shape[1], 1)) if rotation is None else rotation[index]
        frames.put_frame(first + index, {
            "position": position[index].astype(np.float32), "rotation": turn.astype(np.float32),
            "break_time": np.array([t for t, _ in log], float), "break_bond": np.array([b for _, b in log], np.int32)})
    return Motion(frames)


def debris_of(folder: Path, shot: Shot, count: int, spread: float = 6.0) -> tuple[Shed, Debris]:
    """Pieces hopping about the origin; a third of them is born at each of the first three frames."""
    from sim.dust_pairs import shed_write

    index = np.arange(count)
    draws = [hashing.uniform(7, "test/debris", index, lane) for lane in range(8)]
    place = np.stack([spread * (draws[0] - 0.5), 0.2 + 2 * draws[1], spread * (draws[2] - 0.5)], 1)
    speed = np.stack([draws[3] - 0.5, 2 * draws[4], draws[5] - 0.5], 1)
    radius = (0.03 * (1 - draws[6]) ** -0.5).clip(max=0.25)
    born = (3 * index // count) / shot.fps
    zeros = np.zeros(0)
    seeds = Seeds(born, place.astype(np.float32), speed.astype(np.float32), np.zeros((count, 3), np.float32), radius.astype(np.float32),
                  np.ones(count, np.float32), (index % 2).astype(np.int16), np.zeros(count, np.int32), zeros, np.zeros((0, 3), np.float32),
                  np.zeros((0, 3), np.float32), zeros.astype(np.float32), zeros, zeros, zeros)
    frames = FrameFolder(folder)
    for frame in shot.frame_range:
        t = (frame - shot.first) / shot.fps
        there = int(np.sum(born <= t + 1e-9))
        frames.put_frame(frame, {
            "position": (place + speed * t).astype(np.float32)[:there], "velocity": speed.astype(np.float32)[:there],
            "rotation": np.tile(np.array([1, 0, 0, 0], np.float32), (there, 1)), "alive": np.ones(there, bool)})
    return shed_write(FrameFolder(folder / "shed"), seeds, shot), Debris(frames)


def dust_of(folder: Path, shot: Shot, origin, cell: float, mass: np.ndarray, lower=(0, 0, 0)) -> Dust:
    """The same dust at every frame: mass (x, y, z) [kg per cell] as a fine box at `lower` of a grid that just holds it."""
    frames = FrameFolder(folder)
    frames.put("grid", {"origin": np.asarray(origin, float), "cell": np.array(cell),
                        "shape": np.asarray(mass.shape, np.int32) + np.asarray(lower, np.int32)})
    for frame in shot.frame_range:
        frames.put_frame(frame, {"lower": np.asarray(lower, np.int32), "mass": mass.astype(np.float32)})
    return Dust(frames)
