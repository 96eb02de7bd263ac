"""The `build` stage: a building of solid members, from parameters or from a mesh file.

In: a Shot (its building table; relative mesh paths start at the shot file's folder). Out: `results.Building`, saved in the folder.
Every member is closed, outward and free of overlap with its neighbours; members that carry each other share a face.
Not handled here: cutting into fragments and finding bonds, which is `shatter`'s.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from assets.frame import Box, frame_boxes
from shot.errors import ShotError
from shot.frames import FrameFolder
from shot.params import Building as BuildingParams
from shot.params import Materials, Shot
from shot.results import MEMBER_KINDS, Building, Progress

log = logging.getLogger(__name__)
MATERIAL_NAMES = tuple(Materials.model_fields)
BOX_FACE = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]],
    np.int32,
)  # corner index = 4 x + 2 y + z


def build(shot: Shot, folder: FrameFolder, base: Path, progress: Progress) -> Building:
    """The building of a shot, saved in `folder`. Raises ShotError for sizes or mesh files that cannot be used."""
    building = mesh_building(shot.building, base) if shot.building.kind == "mesh" else frame_building(shot.building)
    building.save(folder)
    progress(0)
    return building


def frame_building(params: BuildingParams) -> Building:
    """The parametric reinforced-concrete block."""
    boxes = frame_boxes(params)
    meshes = [box_mesh(box) for box in boxes]
    return assemble(
        vertex=[vertex for vertex, _ in meshes],
        face=[face for _, face in meshes],
        kind=[box.kind for box in boxes],
        material=[box.material for box in boxes],
        element=[box.element for box in boxes],
        convex=[box.opening is None for box in boxes],
        grounded=[grounded(box) for box in boxes],
        report={},
    )


def box_mesh(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and faces (T, 3) of a box, its opening cut out."""
    corner = np.array([[x, y, z] for x in box.x for y in box.y for z in box.z])
    if box.opening is None:
        return corner, BOX_FACE
    from assets.solid import arrays, manifold_from

    through = np.array([[x, y, z] for x in box.opening[0] for y in box.opening[1] for z in (box.z[0] - 1.0, box.z[1] + 1.0)])
    return arrays(manifold_from(corner, BOX_FACE) - manifold_from(through, BOX_FACE))


def grounded(box: Box) -> bool:
    """Whether a member of the block has a foundation under it."""
    return box.y[0] == 0.0


def mesh_building(params: BuildingParams, base: Path) -> Building:
    """A mesh file, repaired into solid members."""
    from assets.mesh import mesh_parts

    try:
        parts, report = mesh_parts(params, base / params.file, MATERIAL_NAMES)
    except ShotError as error:
        raise ShotError(f"building.file = {params.file!r}: {error}") from error
    for warning in report["warnings"]:
        log.warning("%s: %s", params.file, warning)
    return assemble(
        vertex=[part.vertex for part in parts],
        face=[part.face for part in parts],
        kind=["mesh"] * len(parts),
        material=[part.material for part in parts],
        element=[part.element for part in parts],
        convex=[part.convex for part in parts],
        grounded=[part.grounded for part in parts],
        report=report,
    )


def assemble(
    vertex: list[np.ndarray], face: list[np.ndarray], kind: list[str], material: list[str], element: list[str],
    convex: list[bool], grounded: list[bool], report: dict,
) -> Building:  # fmt: skip
    """Members as flat arrays; elements in order of first appearance."""
    names = tuple(dict.fromkeys(element))
    index = {name: i for i, name in enumerate(names)}
    return Building(
        vertex=np.concatenate(vertex).astype(np.float64),
        vertex_start=np.cumsum([0] + [len(v) for v in vertex]).astype(np.int32),
        face=np.concatenate(face).astype(np.int32),
        face_start=np.cumsum([0] + [len(f) for f in face]).astype(np.int32),
        member_kind=np.array([MEMBER_KINDS.index(k) for k in kind], np.int8),
        member_material=np.array([MATERIAL_NAMES.index(m) for m in material], np.int16),
        member_element=np.array([index[e] for e in element], np.int32),
        member_convex=np.array(convex, bool),
        member_grounded=np.array(grounded, bool),
        material_name=MATERIAL_NAMES,
        element_name=names,
        report=report,
    )
