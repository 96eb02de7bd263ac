# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportReturnType=false
"""The bundled meshes, three of them hard in different ways: `python -m assets.meshes.make` writes them again, byte for byte.

house.glb   a gabled house in centimetres, Z up: several nodes, one mirrored; holes, inside-out and flipped faces, overlapping parts
school.obj  a two-storey school of walls without thickness, in metres, Y up: corners doubled, faces doubled, collapsed and flipped
tower.stl   a church tower of crossing shells, in metres, Z up, nameless: a cavity, a rib that crosses itself, edges shared by six faces
wall.obj    one sound box, 4 x 2.6 x 0.24 m

`*_solid` give the same buildings as exact solids, which tests compare volumes with.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import trimesh
from manifold3d import CrossSection, FillRule, Manifold, OpType

HERE = Path(__file__).resolve().parent
Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # our Y up to the file's Z up
SHEET = 0.15  # [m] thickness that the school's sheets are given: building.shell_thickness


def block(lower: Iterable[float], upper: Iterable[float]) -> Manifold:
    """An axis-aligned box between two corners."""
    a, b = np.array(list(lower), float), np.array(list(upper), float)
    return Manifold.cube(list(b - a)).translate(list(a))


def joined(parts: Iterable[Manifold]) -> Manifold:
    """Union."""
    return Manifold.batch_boolean(list(parts), OpType.Add)


def mesh_of(solid: Manifold) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a solid."""
    mesh = solid.to_mesh64()
    return np.asarray(mesh.vert_properties)[:, :3].copy(), np.asarray(mesh.tri_verts).astype(np.int64)


# --- house ---------------------------------------------------------------------------------------------------------------------------


def house_parts() -> dict[str, tuple[str, Manifold]]:
    """Material and solid of each part, metres, Y up, overlapping where parts are built into each other."""
    walls = block((-5, 0, -4), (5, 5.9, 4)) - block((-4.7, -1, -3.7), (4.7, 7, 3.7))
    gable = Manifold.extrude(CrossSection([[[-4.0, 0.0], [4.0, 0.0], [0.0, 2.5]]], FillRule.Positive), 0.3).rotate([0, 90, 0])
    walls = joined([walls, gable.translate([4.7, 5.9, 0]), gable.translate([-5, 5.9, 0])])
    openings = [block((x, y + 0.9, z - 1), (x + 1.3, y + 2.2, z + 1)) for x in (-3.9, -1.0, 2.4) for y in (0, 2.9) for z in (-4, 4)]
    openings[1] = block((-3.9, 0, 3), (-2.7, 2.1, 5))  # the door
    openings += [block((x - 1, y + 0.9, z), (x + 1, y + 2.1, z + 1.4)) for x in (-5, 5) for y in (0, 2.9) for z in (-2.6, 1.2)]
    walls -= joined(openings)
    floor = block((-4.85, 2.7, -3.85), (4.85, 2.9, 3.85))
    partition = block((0.9, 0, -3.75), (1.1, 5.8, 3.75)) - block((0.5, 0, -0.5), (1.5, 2.1, 0.5)) - block((0.5, 2.9, -0.5), (1.5, 5.0, 0.5))
    slope = CrossSection([[[-4.7, 5.3625], [0.0, 8.3], [0.0, 8.55], [-4.7, 5.6125]]], FillRule.Positive)  # profile in (-z, y)
    half_roof = Manifold.extrude(slope, 11.0).rotate([0, 90, 0]).translate([-5.5, 0, 0])
    chimney = block((2.2, 0, -1.6), (3.2, 9.4, -0.8))
    return {
        "walls": ("brick", walls), "floor_1": ("concrete", floor), "partition": ("brick", partition), "roof": ("plain", half_roof),
        "chimney": ("brick", chimney), "porch_post": ("concrete", block((0, 0, 0), (0.25, 2.5, 0.25))),
        "porch_roof": ("concrete", block((-4.6, 2.5, 3.9), (-1.4, 2.65, 5.9))),
    }  # fmt: skip


POSTS = ((-4.5, 0, 5.5), (-1.75, 0, 5.5))


def house_solid() -> Manifold:
    """The whole house."""
    parts = {name: solid for name, (_, solid) in house_parts().items()}
    post = parts.pop("porch_post")
    return joined([*parts.values(), parts["roof"].mirror([0, 0, 1]), *(post.translate(list(p)) for p in POSTS)])


def house_write(path: Path) -> None:
    """The house with its faults, as GLB."""
    scene = trimesh.Scene()
    centimetres = Z_UP.copy()
    centimetres[:3, :3] *= 100
    for name, (material, solid) in house_parts().items():
        vertex, face = mesh_of(solid)
        if name == "walls":
            face = face[:, ::-1]  # inside out
            face = np.delete(face, [7, 40, 41, 90], axis=0)  # holes
        if name == "chimney":
            face = face[:, ::-1]
        if name == "floor_1":
            face[::3] = face[::3, ::-1]  # every third face flipped
        mesh = trimesh.Trimesh(vertex, face, process=False)
        mesh.visual = trimesh.visual.TextureVisuals(material=trimesh.visual.material.PBRMaterial(name=material))
        places = [np.eye(4)]
        if name == "roof":
            places.append(np.diag([1.0, 1.0, -1.0, 1.0]))  # the other slope, mirrored
        if name == "porch_post":
            places = [trimesh.transformations.translation_matrix(p) for p in POSTS]
        for number, place in enumerate(places):
            node = name if len(places) == 1 else f"{name}_{number}"
            scene.add_geometry(mesh, node_name=node, geom_name=name, transform=centimetres @ place)
    path.write_bytes(bytes(scene.export(file_type="glb")))


# --- school --------------------------------------------------------------------------------------------------------------------------


def rows(count: int, lower: float, upper: float, width: float) -> list[tuple[float, float]]:
    """`count` openings of one width, evenly spaced between two ends."""
    gap = (upper - lower - count * width) / (count + 1)
    return [(lower + gap + i * (width + gap), lower + gap + i * (width + gap) + width) for i in range(count)]


def school_sheets() -> dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray, list, str]]]:
    """Per object: flat sheets as (corner, unit u, unit v, [outline, openings...] each (u0, v0, u1, v1), side of the thickness)."""
    x, z, top = 8.0, 4.5, 7.4
    up = np.array([0.0, 1, 0])

    def wall(a, b, bottom, height, openings):
        a, b = np.array([a[0], bottom, a[1]], float), np.array([b[0], bottom, b[1]], float)
        return a, (b - a) / np.linalg.norm(b - a), up, [(0, 0, float(np.linalg.norm(b - a)), height), *openings]

    long = [(u, y + 1.0, w, y + 2.6) for y in (0, 3.3) for u, w in rows(6, 0, 2 * x, 1.7)]
    door = [(7.2, 0.0, 8.8, 2.4)]
    front = [o for o in long if not (o[1] < 2 and o[0] < 8.8 and o[2] > 7.2)]
    side = [(u, y + 1.0, w, y + 2.6) for y in (0, 3.3) for u, w in rows(2, 0, 2 * z, 1.5)]
    shell = [
        wall((-x, z), (x, z), 0, top, front + door), wall((x, z), (x, -z), 0, top, side),
        wall((x, -z), (-x, -z), 0, top, long), wall((-x, -z), (-x, z), 0, top, side),
    ]  # fmt: skip
    flat = [np.array([1.0, 0, 0]), np.array([0, 0, -1.0])]
    plate = [(0.0, 0.0, 2 * x, 2 * z)]
    cross = [(3.8, 0.0, 5.2, 2.2), (3.8, 3.4, 5.2, 5.6)]
    corners = [(-1.6, -2), (1.6, -2), (1.6, -5.2), (-1.6, -5.2)]
    stair = [wall(a, b, 0, 9.6, []) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    return {
        "walls": [(*w, "in") for w in shell],
        "floor_1": [(np.array([-x, 3.25, z]), *flat, plate, "both")],
        "roof": [(np.array([-x, 6.6, z]), *flat, plate, "both")],
        "cross_wall_left": [(*wall((-3.2, z), (-3.2, -z), 0, 6.6, cross), "both")],
        "cross_wall_right": [(*wall((3.2, z), (3.2, -z), 0, 6.6, cross), "both")],
        "stair_tower": [(*w, "out") for w in stair],
        "stair_roof": [(np.array([-1.6, 9.6, -2.0]), *flat, [(0.0, 0.0, 3.2, 3.2)], "both")],
    }


def school_solid() -> Manifold:
    """Every sheet with its thickness, corners mitred by what the walls of one object have in common."""
    solids = []
    for name, sheets in school_sheets().items():
        if name in ("walls", "stair_tower"):
            corner = np.array([s[0] for s in sheets])
            lower, upper = corner.min(axis=0), corner.max(axis=0)
            height = sheets[0][3][0][3]
            inset = np.array([SHEET, 0, SHEET])
            box = block(lower, upper + [0, height, 0]) - block(lower + inset - [0, 1, 0], upper - inset + [0, height + 1, 0])
            solids.append(box - joined([slab(s, opening, 1.0) for s in sheets for opening in s[3][1:]] or [Manifold()]))
        else:
            for sheet in sheets:
                solids.append(slab(sheet, sheet[3][0], SHEET / 2) - joined([slab(sheet, o, 1.0) for o in sheet[3][1:]] or [Manifold()]))
    return joined(solids)


def slab(sheet: tuple, rectangle: tuple[float, float, float, float], half: float) -> Manifold:
    """The box over a rectangle of a sheet, `half` to each side."""
    corner, u, v = sheet[:3]
    normal = np.cross(u, v)
    ends = [corner + u * rectangle[a] + v * rectangle[b] + normal * s for a in (0, 2) for b in (1, 3) for s in (-half, half)]
    return block(np.min(ends, axis=0), np.max(ends, axis=0))


def school_write(path: Path) -> None:
    """The school with its faults, as OBJ: three corners of its own for every face."""
    lines, number = ["# walls without thickness"], 1
    for name, sheets in school_sheets().items():
        lines.append(f"o {name}")
        triangles = []
        for corner, u, v, (outline, *openings), side in sheets:
            area = CrossSection.square([outline[2] - outline[0], outline[3] - outline[1]]).translate([outline[0], outline[1]])
            for o in openings:
                area -= CrossSection.square([o[2] - o[0], o[3] - o[1]]).translate([o[0], o[1]])
            flat, face = mesh_of(Manifold.extrude(area, 1.0))
            lid = face[(flat[face][:, :, 2] == 1.0).all(axis=1)]
            world = corner + flat[lid][:, :, :1] * u + flat[lid][:, :, 1:2] * v
            triangles += list(world if side != "out" else world[:, ::-1])
        triangles[1::4] = [t[::-1] for t in triangles[1::4]]  # a quarter flipped
        triangles += [triangles[0], triangles[1][::-1], triangles[1][[0, 1, 1]]]  # doubled, doubled in reverse, collapsed
        for t in triangles:
            lines += [f"v {p[0]:.6g} {p[1]:.6g} {p[2]:.6g}" for p in t]
            lines.append(f"f {number} {number + 1} {number + 2}")
            number += 3
    path.write_text("\n".join(lines) + "\n")


# --- tower ---------------------------------------------------------------------------------------------------------------------------


def tower_parts() -> list[Manifold]:
    """Crossing shells, metres, Y up."""
    turn = [-90, 0, 0]  # manifold's cylinders stand on z
    nave = block((-3, 0, -3), (3, 12, 3)) - block((-2.5, -1, -2.5), (2.5, 11.5, 2.5))
    nave -= joined([block((-0.9, -1, 2), (0.9, 3.0, 4)), *(block((-0.6, y, -4), (0.6, y + 1.8, 4)) for y in (4.5, 8.0))])
    nave -= joined([block((-4, y, -0.6), (4, y + 1.8, 0.6)) for y in (4.5, 8.0)])
    belfry = Manifold.cylinder(5.2, 2.7, 2.7, 8).rotate(turn) - Manifold.cylinder(4.8, 2.3, 2.3, 8).rotate(turn).translate([0, 0.2, 0])
    arches = [block((-0.55, 1.2, -3), (0.55, 3.8, 3)).rotate([0, a, 0]) for a in (22.5, 67.5, 112.5, 157.5)]
    belfry = (belfry - joined(arches)).translate([0, 11.8, 0])
    dome = (Manifold.sphere(2.85, 24) - Manifold.sphere(2.45, 24)).translate([0, 17.0, 0])  # its cavity is a second shell
    lantern = Manifold.cylinder(2.2, 0.7, 0.7, 8).rotate(turn).translate([0, 19.4, 0])
    spire = Manifold.cylinder(3.4, 0.95, 0.05, 8).rotate(turn).translate([0, 21.4, 0])
    corner = [block((3, 0, 2.2), (3.7, 9, 3)), block((2.2, 0, 3), (3, 9, 3.7))]  # meet each other and the nave on one edge
    buttress = [solid.rotate([0, a, 0]) for solid in corner for a in (0, 90, 180, 270)]
    cornice = block((-3.3, 11.4, -3.3), (3.3, 12.1, 3.3)) - block((-2.9, 11, -2.9), (2.9, 13, 2.9))
    return [nave, belfry, dome, lantern, spire, cornice, *buttress]


def rib(radius: float = 2.85, width: float = 0.3, steps: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A closed square tube that crosses itself on top of the dome: up at 0, down at 180, round to 270, up, down at 90, round to 0."""
    rise = np.linspace(0, np.pi, 2 * steps + 1)[:-1]
    over = [np.stack([np.cos(a) * np.cos(rise), np.sin(rise), np.sin(a) * np.cos(rise)], axis=1) for a in (0.0, 1.5 * np.pi)]
    turn = np.linspace(0, 0.5 * np.pi, steps + 1)[:-1]
    round_ = [np.stack([np.cos(a + s * turn), 0 * turn, np.sin(a + s * turn)], axis=1) for a, s in ((np.pi, 1.0), (0.5 * np.pi, -1.0))]
    path = np.concatenate([over[0], round_[0], over[1], round_[1]]) * radius
    ahead = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    out = path / radius
    side = np.cross(ahead, out)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    out = np.cross(side, ahead)
    h = width / 2
    vertex = np.stack([path + h * (a * side + b * out) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))], axis=1).reshape(-1, 3)
    n, face = len(path), []
    for i in range(n):
        for k in range(4):
            a, b = 4 * i + k, 4 * i + (k + 1) % 4
            c, d = 4 * ((i + 1) % n) + k, 4 * ((i + 1) % n) + (k + 1) % 4
            face += [[a, c, b], [b, c, d]]
    return vertex + [0, 17.0, 0], np.array(face)


def tower_write(path: Path) -> None:
    """The tower as one binary STL."""
    soup = []
    for solid in tower_parts():
        vertex, face = mesh_of(solid)
        soup.append(vertex[face])
    vertex, face = rib()
    soup.append(vertex[face])
    triangles = np.concatenate(soup) @ Z_UP[:3, :3].T
    mesh = trimesh.Trimesh(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3), process=False)
    path.write_bytes(bytes(mesh.export(file_type="stl")))


# --- wall ----------------------------------------------------------------------------------------------------------------------------


def wall_write(path: Path) -> None:
    """A free-standing wall."""
    vertex, face = mesh_of(block((-2, 0, -0.12), (2, 2.6, 0.12)))
    lines = ["o wall"] + [f"v {p[0]:g} {p[1]:g} {p[2]:g}" for p in vertex] + [f"f {a} {b} {c}" for a, b, c in face + 1]
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    wall_write(HERE / "wall.obj")
    house_write(HERE / "house.glb")
    school_write(HERE / "school.obj")
    tower_write(HERE / "tower.stl")
