"""Small buildings from boxes and meshes for tests: no parameters, no files."""

from __future__ import annotations

import numpy as np

from shot.results import MEMBER_KINDS, Building

BOX_FACES = np.array([
    [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
    [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
], np.int32)


def box_mesh(lower, upper) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (8, 3) and outward faces (12, 3) of an axis-aligned box."""
    corner = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    return np.where(corner == 1, np.asarray(upper, float), np.asarray(lower, float)), BOX_FACES


def building_of(members, materials=("concrete", "brick", "facade")) -> Building:
    """Building of (kind, material, vertex, face, convex, grounded) rows; each member is its own element."""
    kinds, names, vertices, faces, convex, grounded = zip(*members, strict=True)
    return Building(
        vertex=np.concatenate(vertices).astype(float),
        vertex_start=np.cumsum([0] + [len(v) for v in vertices]).astype(np.int32),
        face=np.concatenate(faces).astype(np.int32),
        face_start=np.cumsum([0] + [len(f) for f in faces]).astype(np.int32),
        member_kind=np.array([MEMBER_KINDS.index(k) for k in kinds], np.int8),
        member_material=np.array([materials.index(n) for n in names], np.int16),
        member_element=np.arange(len(members), dtype=np.int32),
        member_convex=np.array(convex, bool),
        member_grounded=np.array(grounded, bool),
        material_name=tuple(materials),
        element_name=tuple(f"member{k}_{kind}" for k, kind in enumerate(kinds)),
        report={},
    )


def box(kind: str, lower, upper, material: str = "concrete", grounded: bool = False):
    """One convex box member for `building_of`."""
    return (kind, material, *box_mesh(lower, upper), True, grounded)


def frame_block(storeys: int = 2, bays_x: int = 1, bays_z: int = 1, bay: float = 4.0, height: float = 3.0) -> Building:
    """Columns, beams and slabs that abut without overlap: columns between slabs, beams between columns under the slab."""
    side, depth, width, slab = 0.45, 0.45, 0.3, 0.18
    members = []
    for s in range(storeys):
        y0, y1 = s * height, (s + 1) * height - slab
        for i in range(bays_x + 1):
            for k in range(bays_z + 1):
                x, z = i * bay, k * bay
                members.append(box("column", (x - side / 2, y0, z - side / 2), (x + side / 2, y1, z + side / 2), grounded=s == 0))
                if i < bays_x:
                    members.append(box("beam", (x + side / 2, y1 - depth, z - width / 2), (x + bay - side / 2, y1, z + width / 2)))
                if k < bays_z:
                    members.append(box("beam", (x - width / 2, y1 - depth, z + side / 2), (x + width / 2, y1, z + bay - side / 2)))
        for i in range(bays_x):
            for k in range(bays_z):
                x0 = i * bay - (side / 2 if i == 0 else 0.0)
                z0 = k * bay - (side / 2 if k == 0 else 0.0)
                x1 = (i + 1) * bay + (side / 2 if i == bays_x - 1 else 0.0)
                z1 = (k + 1) * bay + (side / 2 if k == bays_z - 1 else 0.0)
                members.append(box("slab", (x0, y1, z0), (x1, y1 + slab, z1)))
    return building_of(members)
