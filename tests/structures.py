"""Small structures of boxes with exact faces: columns, beams, walls, frames. Shared by the physics tests and `bench/`."""

from __future__ import annotations

import numpy as np

from shot.params import Material
from shot.results import GROUND, MEMBER_KINDS, Bonds, Fragments


def boxes(
    cells: np.ndarray, size: tuple[float, float, float], material: Material, kind: np.ndarray | None = None,
    ground: bool = True, origin: tuple[float, float, float] = (0.0, 0.0, 0.0), grounded: np.ndarray | None = None,
) -> tuple[Fragments, Bonds]:
    """Boxes of `size` [m] at integer cells (F, 3), lower corners at origin + cell * size; neighbours share a full face.

    Cells with y index 0 (or `grounded`) stand on ground bonds half a box long. `kind` (F) indexes MEMBER_KINDS. No scatter of strength."""
    cells = np.asarray(cells, int)
    step = np.asarray(size, float)
    centre = np.asarray(origin) + (cells + 0.5) * step
    return _structure(centre, np.broadcast_to(step, centre.shape), _neighbours(cells), material, kind, ground, grounded)


def frame(
    storeys: int, bays_x: int, bays_z: int, material: Material, bay: float = 4.0, storey: float = 3.0, piece: float = 1.0, side: float = 0.4
) -> tuple[Fragments, Bonds]:
    """Columns and beams of square section `side`, cut into about `piece` long boxes, with a joint box at every node."""
    centres, sizes, kind = [], [], []

    def put(lower, upper, what):
        centres.append((np.asarray(lower) + upper) / 2)
        sizes.append(np.asarray(upper) - lower)
        kind.append(MEMBER_KINDS.index(what))

    def run(lower, upper, axis, what):
        count = max(1, round((upper[axis] - lower[axis]) / piece))
        cuts = np.linspace(lower[axis], upper[axis], count + 1)
        for first, last in zip(cuts[:-1], cuts[1:], strict=True):
            a, b = np.array(lower, float), np.array(upper, float)
            a[axis], b[axis] = first, last
            put(a, b, what)

    r = side / 2
    for level in range(1, storeys + 1):
        y = level * storey
        for i in range(bays_x + 1):
            for k in range(bays_z + 1):
                x, z = (i - bays_x / 2) * bay, (k - bays_z / 2) * bay
                base = y - storey + (r if level > 1 else 0.0)
                run((x - r, base, z - r), (x + r, y - r, z + r), 1, "column")
                put((x - r, y - r, z - r), (x + r, y + r, z + r), "beam")
                if i < bays_x:
                    run((x + r, y - r, z - r), (x + bay - r, y + r, z + r), 0, "beam")
                if k < bays_z:
                    run((x - r, y - r, z + r), (x + r, y + r, z + bay - r), 2, "beam")
    centre, size = np.array(centres), np.array(sizes)
    return _structure(centre, size, _touching(centre, size), material, np.array(kind), True, None)


def _neighbours(cells: np.ndarray) -> list[tuple[int, int, int]]:
    place = {tuple(cell): index for index, cell in enumerate(cells)}
    found = []
    for cell, index in place.items():
        for axis in range(3):
            other = list(cell)
            other[axis] += 1
            if tuple(other) in place:
                found.append((index, place[tuple(other)], axis))
    return found


def _touching(centre: np.ndarray, size: np.ndarray) -> list[tuple[int, int, int]]:
    found = []
    for index in range(len(centre)):
        gap = np.abs(centre - centre[index]) - (size + size[index]) / 2
        near = (np.abs(gap) < 1e-9).sum(axis=1) == 1
        near &= (gap < 1e-9).all(axis=1)
        for other in np.flatnonzero(near):
            axis = int(np.argmin(np.abs(gap[other])))
            if centre[other, axis] > centre[index, axis]:
                found.append((index, int(other), axis))
    return found


def _structure(centre, size, pairs, material: Material, kind, ground: bool, grounded) -> tuple[Fragments, Bonds]:
    count = len(centre)
    volume = size.prod(axis=1)
    mass = material.density * volume
    square = size**2
    inertia = np.zeros((count, 3, 3))
    inertia[:, range(3), range(3)] = (mass[:, None] / 12) * (square.sum(axis=1, keepdims=True) - square)
    corner = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    triangle = np.array(
        [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    )
    vertex = (corner[None] * size[:, None]).reshape(-1, 3).astype(np.float32)
    each, eighth = np.arange(count, dtype=np.int32), np.arange(0, 8 * count + 1, 8, dtype=np.int32)
    fragments = Fragments(
        position=centre, volume=volume, mass=mass, inertia=inertia, size=np.cbrt(volume).astype(np.float32),
        member=each, kind=(np.zeros(count) if kind is None else kind).astype(np.int8), element=each, material=np.zeros(count, np.int16),
        vertex=vertex, vertex_start=eighth,
        face=np.tile(triangle, (count, 1)).astype(np.int32), face_start=np.arange(0, 12 * count + 1, 12, dtype=np.int32),
        face_interior=np.zeros(12 * count, bool), hull_vertex=vertex, hull_vertex_start=eighth, hull_fragment=each,
        material_name=("concrete",), element_name=tuple(str(k) for k in range(count)),
    )
    rows = []
    for a, b, axis in pairs:
        lower = np.maximum(centre[a] - size[a] / 2, centre[b] - size[b] / 2)
        upper = np.minimum(centre[a] + size[a] / 2, centre[b] + size[b] / 2)
        rows.append((a, b, axis, (lower + upper) / 2, upper - lower, np.abs(centre[b] - centre[a])[axis]))
    if ground:
        standing = np.flatnonzero(centre[:, 1] - size[:, 1] / 2 < 1e-9) if grounded is None else np.flatnonzero(grounded)
        for a in standing:
            rows.append((a, GROUND, 1, centre[a] - [0, size[a, 1] / 2, 0], size[a], size[a, 1] / 2))
    rows.sort(key=lambda row: (row[0], row[1] % (count + 1)))
    return fragments, _faces(rows, material)


def _faces(rows, material: Material) -> Bonds:
    count = len(rows)
    a, b, axis = (np.array([row[k] for row in rows], int).reshape(count) for k in range(3))
    extent = np.array([row[4] for row in rows], float).reshape(count, 3)
    normal = np.eye(3)[axis] * np.where(b == GROUND, -1.0, 1.0)[:, None]
    first = np.eye(3)[(axis + 1) % 3]  # may be the minor axis: the bond does not care
    second = np.cross(normal, first)
    w1, w2 = (np.abs(np.einsum("bi,bi->b", extent, direction)) for direction in (first, second))
    each = np.ones(count)
    return Bonds(
        fragment_a=a.astype(np.int32), fragment_b=b.astype(np.int32), area=w1 * w2,
        centroid=np.array([row[3] for row in rows], float).reshape(count, 3), normal=normal, axis=first,
        second_moment=np.stack([w1 * w2**3, w2 * w1**3], axis=1) / 12, reach=np.stack([w2, w1], axis=1) / 2,
        length=np.array([row[5] for row in rows], float),
        young=material.young * each, shear=material.young / (2 + 2 * material.poisson) * each, tension=material.tension * each,
        compression=material.compression * each, cohesion=material.cohesion * each,
        friction=np.tan(np.radians(material.friction_angle)) * each, fracture_energy=material.fracture_energy * each,
        steel=material.steel * each, joint=np.zeros(count, bool),
    )
