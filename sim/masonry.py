"""Walls of masonry cut along their joints: macro-blocks in running bond.

In: a closed member of a material that has units (`Material.unit`). Out: blocks that fill it exactly, in courses, each course's head
joints over the middles of the blocks below. A block stands for a patch of units and is ASPECT times as long as high, of about the area
of a Voronoi cell of the same piece size, never smaller than one unit. So a crack has to go in steps, as it does in masonry: each course
gives by its head joint and by the half block of bed joint that the next course laps over it, the same share of both as in a wall of
single units of that shape, whatever the size of the blocks (Page 1978; Lourenco and Rots 1997 for interfaces of units).

Courses are level. They start and end at sills, lintels and wall tops; bed joints between them lie at multiples of the unit's height
and head joints at multiples of half its length, measured from the world's origin, where the picture draws the joints. A head joint
within a quarter block of an end or a jamb is left out, so that every second course ends in a half block, or a bat of a quarter up to
five quarters. `jitter` moves joints by up to SHIFT of a block.

A member counts as a wall if it has one even thickness of at most THICK pieces over its whole face: columns, gables and walls with
openings do; rooms in one piece, leaning walls, vaults and thick blocks are cut into Voronoi cells. Blocks go through the thickness.
"""

from __future__ import annotations

from dataclasses import dataclass

import manifold3d
import numpy as np
from scipy.spatial import ConvexHull

from shot.hashing import uniform
from sim.adjacency import Piece
from sim.mass import mass_properties
from sim.polyhedron import SURFACE, Polyhedron, polyhedron_box
from sim.solid import pieces_in_cells, solid_of, turned

ASPECT = 2.0  # length over height of a block: single bricks have 3, concrete blocks 2
THICK = 1.5  # pieces, or bricks where those are longer: thicker members would break through their thickness as well
EVEN = 0.8  # least volume over thickness times silhouette: 1 a plain wall, 0.5 a wedge
BAT = 0.25  # of a block: head joints closer to an end are left out
SHIFT = 0.1  # of a block: most that jitter 1 moves a joint; laps of half a block stay above 0.3
LEVEL = 0.5  # of a course: sills and tops closer to another level make no course of their own
FINER = 0.95  # factor on the piece size until a panel has its least number of pieces
BOX = 1e-9  # of its box's volume: a wall that lacks less is that box


@dataclass(frozen=True)
class Wall:
    """A member seen as a wall: rows of `frame` point along it (the longer way), up and through its thickness."""

    frame: np.ndarray  # (3, 3)
    vertex: np.ndarray  # (V, 3) [m] in that frame
    face: np.ndarray  # (T, 3)
    unit: tuple[float, float]  # [m] length and height of a unit
    box: bool  # no openings, level top: just its box


@dataclass(frozen=True)
class Block:
    """A box [m] in the wall's frame, beyond its faces, top and foot, and what lies across its sides (SURFACE: nothing)."""

    lower: np.ndarray  # (3)
    upper: np.ndarray  # (3)
    number: int  # what names the block at head joints; counted on from the courses
    course: int  # what names it at bed joints
    beside: tuple[int, int]  # blocks left and right
    over: tuple[int, int]  # courses below and above


def wall_of(vertex: np.ndarray, face: np.ndarray, unit: tuple[float, float], piece: float) -> Wall | None:
    """The member as a wall of units; None if the material has none or the member is no wall."""
    if min(unit) <= 0.0:
        return None
    along = plan_direction(vertex)
    up = np.array([0.0, 1.0, 0.0])
    frame = np.stack([along, up, np.cross(along, up)])
    local = vertex @ frame.T
    thickness = float(np.ptp(local[:, 2]))
    a, b, c = (local[face[:, k]] for k in range(3))
    silhouette = 0.25 * float(np.abs(np.cross(b - a, c - a)[:, 2]).sum())
    volume = float(mass_properties(local, np.array([0, len(local)]), face, np.array([0, len(face)]))[0][0])
    if volume < EVEN * thickness * silhouette or thickness > THICK * max(piece, unit[0]):
        return None
    return Wall(frame, local, face, unit, volume >= (1.0 - BOX) * float(np.ptp(local, axis=0).prod()))


def plan_direction(vertex: np.ndarray) -> np.ndarray:
    """Unit vector (3) along the longer side of the smallest rectangle around the plan: a side of the plan's hull, or x or z."""
    plan = vertex[:, [0, 2]]
    corner = plan[ConvexHull(plan).vertices]
    edge = np.concatenate([np.eye(2), corner - np.roll(corner, 1, axis=0)])
    side = edge / np.linalg.norm(edge, axis=1, keepdims=True)
    width = np.stack([np.ptp(corner @ side.T, axis=0), np.ptp(corner @ np.stack([-side[:, 1], side[:, 0]]), axis=0)], axis=1)
    area = width.prod(axis=1)
    best = int(np.argmax(area <= (1.0 + 1e-6) * area.min()))  # the first of equals
    x, z = side[best] if width[best, 0] >= width[best, 1] else (-side[best, 1], side[best, 0])
    way = np.array([x, 0.0, z]) + 0.0
    return way if way[int(np.argmax(np.abs(way)))] > 0.0 else -way


def pieces_of_wall(member: int, wall: Wall, piece: float, pieces_min: int, jitter: float, seed: int, stream: str) -> list[Piece]:
    """Cut one member along its joints. Raises ShotError if its mesh is not closed and outward."""
    solid = None if wall.box else solid_of(member, wall.vertex, wall.face)
    finest = min(wall.unit[0] * ASPECT**-0.5, wall.unit[1] * ASPECT**0.5)
    while True:
        blocks = blocks_of(wall, solid, piece, jitter, seed, stream)
        if len(blocks) >= pieces_min or piece <= finest:
            break
        piece *= FINER
    courses = blocks[0].number

    def own(number: int, other: int) -> int:
        block = blocks[number - courses]
        return block.course if 0 <= other < courses else block.number

    cells = [(block.number, cell_of(block)) for block in blocks]
    if solid is not None:
        return [turned(p, wall.frame) for p in pieces_in_cells(member, solid, cells, own)]
    lower, upper = wall.vertex.min(axis=0), wall.vertex.max(axis=0)
    pieces = []
    for number, cell in cells:
        vertex = np.clip(cell.vertex, lower, upper) @ wall.frame
        pieces.append(Piece(member, vertex, cell.loop, tuple(own(number, other) for other in cell.tag), cell.tag, (vertex,)))
    return pieces


def cell_of(block: Block) -> Polyhedron:
    """The block as a box whose faces are tagged with what lies across them."""
    box = polyhedron_box(block.lower, block.upper)
    return Polyhedron(box.vertex, box.loop, (*block.beside, *block.over, SURFACE, SURFACE))


def blocks_of(wall: Wall, solid: manifold3d.Manifold | None, piece: float, jitter: float, seed: int, stream: str) -> list[Block]:
    """All blocks, course by course from the bottom; every part of the wall lies in one of them."""
    lower, upper = wall.vertex.min(axis=0), wall.vertex.max(axis=0)
    margin = 0.1 * float((upper - lower).max())
    length, height = max(piece * ASPECT**0.5, wall.unit[0]), max(piece * ASPECT**-0.5, wall.unit[1])
    bed = beds(levels(wall, height), height, wall.unit[1], jitter, seed, stream)
    courses = len(bed) - 1
    pitch = pitch_of(float(upper[0] - lower[0]), length, wall.unit[0])
    blocks: list[Block] = []
    for course in range(courses):
        y = bed[course] - (margin if course == 0 else 0.0), bed[course + 1] + (margin if course == courses - 1 else 0.0)
        over = course - 1 if course else SURFACE, course + 1 if course < courses - 1 else SURFACE
        runs = [(float(lower[0]), float(upper[0]))] if solid is None else runs_of(solid, lower, upper, bed[course], bed[course + 1])
        for start, end in runs:
            joint = joints(start, end, float(lower[0]), course % 2, pitch, wall.unit[0], jitter, seed, f"{stream}/course{course}")
            cuts = [start, *joint, end]  # not into the opening: a bed joint on its sill would leave a flap there
            for k in range(len(cuts) - 1):
                number = courses + len(blocks)
                blocks.append(Block(
                    np.array([cuts[k], y[0], lower[2] - margin]), np.array([cuts[k + 1], y[1], upper[2] + margin]), number, course,
                    (number - 1 if k else SURFACE, number + 1 if k < len(joint) else SURFACE), over,
                ))
    return blocks


def pitch_of(extent: float, length: float, unit: float) -> float:
    """Distance [m] of the head joints of one course: about `length`, in whole units; longer than a pier that is narrower than a block."""
    count = round(extent / length)
    return unit * max(1, round(extent / count / unit)) if extent >= (1.0 - BAT) * length else extent / BAT


def levels(wall: Wall, height: float) -> list[float]:
    """Heights [m] of bottom, top and what is level in between over at least a course's height of length (sills, lintels), ascending."""
    lower, upper = wall.vertex.min(axis=0), wall.vertex.max(axis=0)
    a, b, c = (wall.vertex[wall.face[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    flat = np.abs(cross[:, 1]) > (1.0 - 1e-6) * np.linalg.norm(cross, axis=1)
    rounding = 1e-6 * float((upper - lower).max())
    found: dict[int, float] = {}
    for y, size in zip(a[flat, 1].tolist(), 0.5 * np.abs(cross[flat, 1]), strict=True):
        found[round(y / rounding)] = found.get(round(y / rounding), 0.0) + float(size)
    kept = [float(lower[1]), float(upper[1])]
    for step in sorted(found, key=lambda step: (-found[step], step)):
        y = step * rounding
        if found[step] >= height * (upper[2] - lower[2]) and min(abs(y - other) for other in kept) >= LEVEL * height:
            kept.append(y)
    return sorted(kept)


def beds(level: list[float], height: float, unit: float, jitter: float, seed: int, stream: str) -> list[float]:
    """Heights [m] of the bed joints, with bottom and top: courses of about `height` between levels, at multiples of `unit`."""
    bed = [level[0]]
    for low, high in zip(level, level[1:], strict=False):
        count = max(1, round((high - low) / height))
        inner = low + (high - low) / count * (np.arange(1, count) + shifts(jitter, seed, f"{stream}/bed", len(bed), count - 1))
        bed += [y for y in np.unique(np.round(inner / unit) * unit).tolist() if low + 0.5 * unit < y < high - 0.5 * unit]
        bed.append(high)
    return bed


def joints(
    start: float, end: float, first: float, odd: int, pitch: float, unit: float, jitter: float, seed: int, stream: str
) -> list[float]:
    """Places [m] of the head joints of a course between two ends, at multiples of half a unit; every other course is half a block on."""
    from_end = BAT * pitch
    k = np.arange(np.floor((start - first) / pitch) - 1, np.ceil((end - first) / pitch) + 2)
    place = np.round(first / (0.5 * unit)) * 0.5 * unit + pitch * (k + 0.5 * odd + shifts(jitter, seed, stream, int(k[0]) + 2**20, len(k)))
    place = np.unique(np.round(place / (0.5 * unit)) * 0.5 * unit)
    return place[(place > start + from_end) & (place < end - from_end)].tolist()


def shifts(jitter: float, seed: int, stream: str, first: int, count: int) -> np.ndarray:
    """Irregularity (count) of joints, as a share of a block."""
    return 2.0 * SHIFT * jitter * (uniform(seed, stream, first + np.arange(count)) - 0.5)


def runs_of(solid: manifold3d.Manifold, lower: np.ndarray, upper: np.ndarray, low: float, high: float) -> list[tuple[float, float]]:
    """Stretches [m] of a course between openings and ends, from the start; parts above one another are one."""
    size = upper - lower + 2.0
    slab = manifold3d.Manifold.cube([size[0], high - low, size[2]]).translate([lower[0] - 1.0, low, lower[2] - 1.0])
    parts = sorted((box[0], box[3]) for part in (solid ^ slab).decompose() if part.volume() > 0.0 for box in [part.bounding_box()])
    runs: list[tuple[float, float]] = []
    for start, end in parts:
        if runs and start < runs[-1][1]:
            runs[-1] = runs[-1][0], max(runs[-1][1], end)
        else:
            runs.append((start, end))
    return runs
