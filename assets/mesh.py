"""Mesh files of any quality into solid members.

In: a glTF/GLB, OBJ, STL or PLY file, its unit and up axis. Out: closed, outward, disjoint parts standing on y = 0 with the plan
centred, each named after its node, and a report of what was found and repaired. In order: flatten the scene, convert units and
axis, weld, drop bad faces, split into shells, rewind, close small holes, sew shells cut over several nodes, thicken what encloses
nothing, resolve self-intersections, turn inside-out shells, keep cavities, and cut overlaps away so that no volume counts twice.

Not handled: textures, instancing beyond copies, curved glTF extensions (Draco needs trimesh's own extra), animated or skinned poses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from assets.shell import Surface, shells_close, shells_split
from assets.solid import Solid, solids_of, solids_separate
from shot.errors import ShotError, nearest
from shot.params import Building

UNIT = {"m": 1.0, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}  # [m]
UP = {
    "y": np.eye(3),
    "z": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),  # a turn about x: z to y
    "x": np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]]),  # a turn about z: x to y
}
FORMATS = (".glb", ".gltf", ".obj", ".stl", ".ply")
NAMELESS = (".stl", ".ply")  # formats whose parts have no names: the file's stands in
PLAUSIBLE = (2.0, 400.0)  # [m] height of a building; outside it the report asks about the unit


@dataclass(frozen=True)
class Part:
    """One solid member of an imported model."""

    vertex: np.ndarray  # (V, 3) f64 [m] world
    face: np.ndarray  # (T, 3) i32
    material: str
    element: str
    convex: bool
    grounded: bool


def mesh_parts(params: Building, path: Path, materials: tuple[str, ...]) -> tuple[list[Part], dict]:
    """Members and report of a mesh file. Raises ShotError where it cannot be read or holds nothing solid."""
    report: dict[str, Any] = {"file": path.name, "unit": params.unit, "up": params.up, "warnings": []}
    surfaces = placed(read(path, params.material, materials), params, report)
    shells = shells_split(surfaces, report)
    closed = shells_close(shells, params.hole_limit, params.shell_thickness, report)
    solids = solids_of(closed, report)
    if not solids:
        raise ShotError(f"{path}: nothing solid is left of {len(surfaces)} parts; is it a point cloud or a single line of faces?")
    solids = solids_separate(solids, report)
    parts = [part_of(solid, float(report["size"][1])) for solid in solids]
    report |= {"members": len(parts), "elements": len({part.element for part in parts}), "volume": sum(s.volume for s in solids)}
    report["grounded"] = sum(part.grounded for part in parts)
    if not report["grounded"]:
        report["warnings"].append("no member stands on the ground")
    return parts, report


def read(path: Path, material: str, materials: tuple[str, ...]) -> list[Surface]:
    """Triangles of every node of a file, in node order, transforms applied. Raises ShotError."""
    if path.suffix.lower() not in FORMATS:
        hint = nearest(path.suffix.lower(), FORMATS)
        raise ShotError(f"{path}: {path.suffix or 'no extension'} is not a mesh format that is read ({', '.join(FORMATS)}){hint}")
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*")]) if path.parent.is_dir() else ""
        raise ShotError(f"{path}: no such mesh file{near}")
    options: dict[str, Any] = {"process": False}
    if path.suffix.lower() == ".obj":
        options |= {"split_objects": True, "split_groups": True, "group_material": False, "maintain_order": True}
    elif path.suffix.lower() in (".glb", ".gltf"):
        options["merge_primitives"] = True
    try:
        scene = trimesh.load_scene(path, **options)
    except Exception as error:  # readers of five formats raise whatever they like; all of it means the same here
        raise ShotError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error
    surfaces = []
    for node in sorted(scene.graph.nodes_geometry):
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if not isinstance(geometry, trimesh.Trimesh) or len(geometry.faces) == 0:
            continue
        face = np.asarray(geometry.faces, np.int64)
        if np.linalg.det(transform[:3, :3]) < 0:
            face = face[:, ::-1]
        vertex = np.asarray(geometry.vertices, float) @ transform[:3, :3].T + transform[:3, 3]
        own = str(getattr(getattr(geometry.visual, "material", None), "name", "") or "").lower()
        label = path.stem if path.suffix.lower() in NAMELESS else str(node)
        surfaces.append(Surface(label, own if own in materials else material, vertex, face))
    if not surfaces:
        raise ShotError(f"{path}: holds no triangles")
    return surfaces


def placed(surfaces: list[Surface], params: Building, report: dict) -> list[Surface]:
    """In metres, Y up, lowest point on the ground, plan centred on the origin."""
    turn = UP[params.up] * UNIT[params.unit]
    turned = [Surface(s.name, s.material, s.vertex @ turn.T, s.face) for s in surfaces]
    used = np.concatenate([s.vertex[np.unique(s.face)] for s in turned])
    used = used[np.isfinite(used).all(axis=1)]
    if len(used) == 0:
        raise ShotError(f"{report['file']}: no vertex is a finite number")
    lower, upper = used.min(axis=0), used.max(axis=0)
    move = -np.array([(lower[0] + upper[0]) / 2, lower[1], (lower[2] + upper[2]) / 2])
    size = upper - lower
    report |= {
        "nodes": len(surfaces), "vertices": sum(len(s.vertex) for s in surfaces), "faces": sum(len(s.face) for s in surfaces),
        "bounds": [(lower + move).tolist(), (upper + move).tolist()], "size": size.tolist(), "moved": move.tolist(),
        "volume_before": sum(signed_volume(s.vertex, s.face) for s in turned),
    }  # fmt: skip
    if not PLAUSIBLE[0] <= size[1] <= PLAUSIBLE[1]:
        report["warnings"].append(f"the model is {size[1]:.3g} m tall: is building.unit = {params.unit!r} right?")
    elif size[1] < 0.1 * max(size[0], size[2]):
        extent = " x ".join(f"{s:.3g}" for s in size)
        report["warnings"].append(f"the model lies flat ({extent} m): is building.up = {params.up!r} right?")
    return [Surface(s.name, s.material, s.vertex + move, s.face) for s in turned]


def signed_volume(vertex: np.ndarray, face: np.ndarray) -> float:
    """Volume that triangles enclose, as far as they do; non-finite corners count nothing."""
    a, b, c = np.moveaxis(vertex[face], 1, 0)
    return float(np.nansum(np.where(np.isfinite(a + b + c).all(axis=1), np.einsum("ij,ij->i", a, np.cross(b, c)), 0.0)) / 6)


def part_of(solid: Solid, height: float) -> Part:
    """A member: grounded where it reaches into the lowest hundredth of the model."""
    vertex, face = solid.mesh()
    hull = solid.manifold.hull().volume()
    return Part(
        vertex, face, solid.material, solid.name,
        convex=bool(hull - solid.volume < 1e-6 * hull),
        grounded=bool(vertex[:, 1].min() <= 0.01 * height),
    )  # fmt: skip
