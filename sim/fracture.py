"""The `shatter` stage: members cut into pieces, pieces tied by bonds.

In: a Building and the shot's fracture, materials and seed. Out: Fragments (render mesh, hulls, mass) and Bonds (exact shared
polygons with strengths). Convex members are cut by half-spaces (`sim/voronoi.py`), solids by manifold booleans (`sim/solid.py`), walls of
masonry along their joints (`sim/masonry.py`).
Random numbers are hashed by seed and member, so a member that changes leaves the cuts and strengths of the others alone.
Does not cut during the collapse, and does not repair meshes: members must be closed and outward.
"""

from __future__ import annotations

import logging

import numpy as np

from shot.errors import ShotError
from shot.frames import FrameFolder
from shot.params import Shot
from shot.results import GROUND, MEMBER_KINDS, Bonds, Building, Fragments, Progress
from sim.adjacency import Contact, Piece, contacts_between, contacts_ground, contacts_inside, surface_of, touch_distance
from sim.cover import reduced
from sim.masonry import Wall, pieces_of_wall, wall_of
from sim.mass import mass_properties
from sim.overlap import contacts_overlapping
from sim.polyhedron import Polyhedron, closed, polyhedron_from_mesh
from sim.section import sections_of
from sim.solid import pieces_of_solid
from sim.strength import BED, HEAD, NO_MORTAR, bond_names, bond_strengths, material_columns, material_row
from sim.voronoi import cells_of_convex

log = logging.getLogger(__name__)
FACE_MIN = 1e-4  # of the smaller piece's size squared: smaller shared faces carry nothing and would only crackle
PIECES_MAX = 300_000  # of a building: more is a wrong unit or a slip of the pen, and hours of cutting
VOLUME_ERROR, VOLUME_WRONG = 1e-6, 1e-2  # of a member: what its pieces may have too much or too little before it is told, or refused
LIGHT = 1e-4  # of the median mass: lighter pieces are told
LEVER_MIN = 0.1  # of the way between two centres: least load path of a contact that lies beside both of them


def shatter(shot: Shot, building: Building, folder: FrameFolder, progress: Progress) -> tuple[Fragments, Bonds]:
    """Cut every member, find all shared faces, save both results in `folder`. `progress` gets each member's number."""
    size_check(shot, building)
    pieces: list[Piece] = []
    contacts: list[Contact] = []
    laid = np.array([member_wall(shot, building, member) is not None for member in range(len(building.member_kind))])
    for member in range(len(building.member_kind)):
        own = member_pieces(shot, building, member)
        contacts += contacts_inside(own, len(pieces), bool(building.member_convex[member]) and not laid[member])
        pieces += own
        progress(member)
    surface = surface_of(pieces)
    touch = touch_distance(*member_boxes(building))
    between = contacts_between(pieces, surface, touch)
    contacts += between
    contacts += contacts_overlapping(pieces, {(c.a, c.b) for c in between}, touch)
    contacts += contacts_ground(pieces, surface, building.member_grounded, touch)
    fragments = fragments_of(shot, building, pieces)
    pieces_check(building, fragments)
    bonds = bonds_of(shot, building, fragments, contacts, laid)
    fragments.save(folder)
    bonds.save(folder)
    return fragments, bonds


def size_check(shot: Shot, building: Building) -> None:
    """Raise ShotError before work starts if the building would come to more than PIECES_MAX pieces."""
    lower, upper = member_boxes(building)
    volume, _, _ = mass_properties(building.vertex, building.vertex_start, building.face, building.face_start)
    owner = np.repeat(np.arange(len(volume)), np.diff(building.face_start))
    a, b, c = (building.vertex[building.face[:, k] + building.vertex_start[owner]] for k in range(3))
    area = np.bincount(owner, 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1))
    piece = shot.fracture.piece
    filled = np.prod((upper - lower) / piece + 1.0, axis=1)  # a grid over the member's box
    walls = 0.5 * area / piece**2 + volume / piece**3  # thin walls have two sides, blocks have none to speak of
    pieces = float(np.maximum(1.0, np.minimum(filled, walls)).sum())
    if pieces > PIECES_MAX:
        extent = np.ptp(building.vertex, axis=0).max()
        raise ShotError(
            f"fracture.piece = {piece:g} m would cut a building of {extent:g} m into about {pieces:.0f} pieces, at most {PIECES_MAX} "
            "are allowed: raise fracture.piece, or check building.unit of an imported mesh"
        )


def member_pieces(shot: Shot, building: Building, member: int) -> list[Piece]:
    """Pieces of one member; panels get at least `pieces_min`."""
    vertex = building.vertex[building.vertex_start[member] : building.vertex_start[member + 1]]
    face = building.face[building.face_start[member] : building.face_start[member + 1]]
    fracture = shot.fracture
    panel = MEMBER_KINDS[building.member_kind[member]] in ("facade", "infill")
    pieces_min = fracture.pieces_min if panel else 1
    stream = f"shatter.site/{member}"
    wall = member_wall(shot, building, member)
    if wall is not None:
        return pieces_of_wall(member, wall, fracture.piece, pieces_min, fracture.jitter, shot.seed, stream)
    if not building.member_convex[member]:
        return pieces_of_solid(member, vertex, face, fracture.piece, pieces_min, fracture.jitter, shot.seed, stream)
    solid = polyhedron_from_mesh(vertex, face)
    if not closed(solid):
        raise ShotError(f"member {member}: the mesh is not closed; repair it before it is cut")
    _, cells = cells_of_convex(solid, fracture.piece, pieces_min, fracture.jitter, shot.seed, stream)
    return [piece_of_cell(member, site, cell) for site, cell in enumerate(cells)]


def member_wall(shot: Shot, building: Building, member: int) -> Wall | None:
    """The member as a wall of masonry, if it is one and the shot wants it cut along its joints."""
    unit = material_row(shot.materials, building.material_name[building.member_material[member]]).unit
    if shot.fracture.masonry == "cells":
        return None
    vertex = building.vertex[building.vertex_start[member] : building.vertex_start[member + 1]]
    face = building.face[building.face_start[member] : building.face_start[member + 1]]
    return wall_of(vertex, face, unit, shot.fracture.piece)


def piece_of_cell(member: int, site: int, cell: Polyhedron) -> Piece:
    """A convex cell is its own render mesh and, if it is not round, its own hull."""
    return Piece(member, cell.vertex, cell.loop, (site,) * len(cell.loop), cell.tag, (reduced(cell.vertex),))


def member_boxes(building: Building) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners (M, 3) [m] of the members."""
    start = building.vertex_start[:-1]
    return np.minimum.reduceat(building.vertex, start), np.maximum.reduceat(building.vertex, start)


def fragments_of(shot: Shot, building: Building, pieces: list[Piece]) -> Fragments:
    """Pack pieces: fans as render mesh, mass properties, hulls, all relative to the centre of mass."""
    member = np.array([piece.member for piece in pieces], np.int32)
    vertex, vertex_start = _stack([piece.vertex for piece in pieces])
    meshes = [_fans(piece) for piece in pieces]
    face, face_start = _stack([mesh for mesh, _ in meshes])
    interior = np.concatenate([inside for _, inside in meshes])
    hulls = [hull for piece in pieces for hull in piece.hull]
    hull_vertex, hull_start = _stack(hulls)
    hull_fragment = np.repeat(np.arange(len(pieces), dtype=np.int32), [len(piece.hull) for piece in pieces])
    volume, centre, inertia = mass_properties(vertex, vertex_start, face, face_start)
    material = building.member_material[member]
    density = material_columns(shot.materials, building.material_name)["density"][material]
    return Fragments(
        position=centre,
        volume=volume,
        mass=density * volume,
        inertia=density[:, None, None] * inertia,
        size=np.cbrt(volume).astype(np.float32),
        member=member,
        kind=building.member_kind[member].astype(np.int8),
        element=building.member_element[member].astype(np.int32),
        material=material.astype(np.int16),
        vertex=(vertex - np.repeat(centre, np.diff(vertex_start), axis=0)).astype(np.float32),
        vertex_start=vertex_start,
        face=face,
        face_start=face_start,
        face_interior=interior,
        hull_vertex=(hull_vertex - np.repeat(centre[hull_fragment], np.diff(hull_start), axis=0)).astype(np.float32),
        hull_vertex_start=hull_start,
        hull_fragment=hull_fragment,
        material_name=building.material_name,
        element_name=building.element_name,
    )


def pieces_check(building: Building, fragments: Fragments) -> None:
    """Every piece has a finite volume, mass and inertia, and the pieces of each member sum to it. Raises ShotError by member.

    Told are members whose sum is a little off (crossings that the import leaves: faces that share a corner), and pieces so light that
    contact, whose stiffness follows the median mass, can only roughly follow them."""
    sound = (fragments.volume > 0.0) & np.isfinite(fragments.mass) & np.isfinite(fragments.position).all(axis=1)
    sound &= (fragments.mass > 0.0) & np.isfinite(fragments.inertia).all(axis=(1, 2))
    sound[sound] = np.linalg.eigvalsh(fragments.inertia[sound])[:, 0] > 0.0
    if not sound.all():
        where = int(np.flatnonzero(~sound)[0])
        raise ShotError(
            f"{_member_of(building, int(fragments.member[where]))}: a piece of it has volume {fragments.volume[where]:.3g} m3 and mass "
            f"{fragments.mass[where]:.3g} kg: the member is thinner than its own rounding, or fracture.piece far too small for it"
        )
    whole, _, _ = mass_properties(building.vertex, building.vertex_start, building.face, building.face_start)
    lost = np.abs(np.bincount(fragments.member, fragments.volume, len(whole)) / whole - 1.0)
    if lost.max() > VOLUME_ERROR:
        where = int(np.argmax(lost))
        told = f"{_member_of(building, where)}: its pieces differ from its {whole[where]:.6g} m3 by {100 * lost[where]:.2g} %"
        told += ": its mesh crosses itself"
        if lost[where] > VOLUME_WRONG:
            raise ShotError(f"{told}; repair it before it is cut")
        log.warning(told)
    light = np.flatnonzero(fragments.mass < LIGHT * np.median(fragments.mass))
    if len(light):
        least = int(light[np.argmin(fragments.mass[light])])
        log.warning(
            "%d pieces weigh less than %g of the median, the least %.2g kg, of %s: contact follows them only roughly",
            len(light), LIGHT, fragments.mass[least], _member_of(building, int(fragments.member[least])),
        )


def _member_of(building: Building, member: int) -> str:
    """'member 12 (ground.column.3, concrete)'."""
    element = building.element_name[int(building.member_element[member])]
    return f"member {member} ({element}, {building.material_name[int(building.member_material[member])]})"


def _stack(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows end to end, and where each starts (N + 1) i32."""
    return np.concatenate(rows), np.cumsum([0] + [len(row) for row in rows]).astype(np.int32)


def _fans(piece: Piece) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (T, 3) i32 of a piece and which of them a cut made."""
    face = [(loop[0], loop[k], loop[k + 1]) for loop in piece.loop for k in range(1, len(loop) - 1)]
    inside = [other >= 0 for loop, other in zip(piece.loop, piece.other, strict=True) for _ in range(len(loop) - 2)]
    return np.array(face, np.int32), np.array(inside, bool)


def bonds_of(shot: Shot, building: Building, fragments: Fragments, contacts: list[Contact], laid: np.ndarray) -> Bonds:
    """Bonds of the contacts, ordered by fragments (the ground last) and then by plane. `laid` (M) bool: members cut along mortar joints."""
    count = fragments.count
    contacts = sorted(contacts, key=lambda c: (c.a, c.b if c.b != GROUND else count))  # stable: planes keep their order
    normal = np.array([c.normal for c in contacts]).reshape(-1, 3)
    section = sections_of([c.polygon for c in contacts], normal)
    a, b = (np.array([getattr(c, side) for c in contacts], np.int32) for side in "ab")
    far = np.where(b == GROUND, a, b)  # the ground takes the properties of what stands on it
    keep = section.area > FACE_MIN * np.minimum(fragments.size[a], fragments.size[far]).astype(float) ** 2
    pair = np.stack([a, far], axis=1)
    joint = (b == GROUND) | (fragments.member[a] != fragments.member[far])
    upright = np.abs(normal[:, 1]) < np.sqrt(0.5)
    mortar = np.where(joint | ~laid[fragments.member[a]], NO_MORTAR, np.where(upright, HEAD, BED))
    within = np.arange(count) - np.searchsorted(fragments.member, fragments.member)  # piece number in its member
    name = bond_names(
        np.stack([fragments.member[a], within[a]], axis=1),
        np.where((b == GROUND)[:, None], -1, np.stack([fragments.member[far], within[far]], axis=1)),
        _repeats(a, b),
    )
    columns = bond_strengths(
        shot.fracture, material_columns(shot.materials, building.material_name), shot.seed,
        fragments.material[pair], fragments.kind[pair], joint, mortar, name,
    )
    arrays = {
        "fragment_a": a,
        "fragment_b": b,
        "area": section.area,
        "centroid": section.centroid,
        "normal": normal,
        "axis": section.axis,
        "second_moment": section.second_moment,
        "reach": section.reach,
        "length": load_path(fragments.position, a, b, section.centroid, normal),
        **columns,
        "joint": joint,
    }
    return Bonds(**{key: np.ascontiguousarray(value[keep]) for key, value in arrays.items()})


def load_path(position: np.ndarray, a: np.ndarray, b: np.ndarray, centroid: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Distance (B) [m] from centre to face to centre along the normal; the ground is rigid and adds none.

    Along a straight bar these add up to its length. A face beside its centres (a notch) would give none: LEVER_MIN holds it up.
    """
    total = np.zeros(len(a))
    for end, some in ((a, np.ones(len(a), bool)), (b, b != GROUND)):
        lever = centroid - position[end]
        along = np.maximum(np.abs(np.einsum("ij,ij->i", lever, normal)), LEVER_MIN * np.linalg.norm(lever, axis=1))
        total += np.where(some, along, 0.0)
    return total


def _repeats(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of each row among equal neighbouring (a, b): 0, 1, ..."""
    new = np.concatenate([[True], (a[1:] != a[:-1]) | (b[1:] != b[:-1])]) if len(a) else np.zeros(0, bool)
    here = np.arange(len(a))
    return here - np.maximum.accumulate(np.where(new, here, 0))
