"""A reinforced-concrete frame block as abutting boxes.

In: `shot.params.Building`. Out: a list of `Box`, no two of which overlap, each with a face against what carries it. A facade panel is
one box with an opening through it, so that it breaks as a precast panel does: across spandrel, piers and lintel, not between them.
The type is a street block between party walls, as Buenos Aires builds them: the street front (+z) has windows, balconies
and open shops, the rear (-z) windows only, the party walls (-x, +x) are blind brick between the columns; a lift and stair
core fills the middle bay and ends in a tank room above the roof.

Load path, top to bottom: a slab lies on beams, core walls and column heads; a beam spans between column faces; a column stands
on the slab corners that meet over the column below. Members of the outer lines are flush with the outer column faces, so panels
outside touch slab edge, beam and column. Balcony slabs continue the floor slab through the facade.

Not handled: other plans than a rectangle, storeys of different height, foundations, stair flights, glass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from shot.errors import ShotError
from shot.params import Building

Span = tuple[float, float]  # [m] lower, upper
Kind = Literal["column", "beam", "slab", "wall", "core", "facade", "infill"]


@dataclass(frozen=True)
class Box:
    """One member: an axis-aligned box [m], world, plan centred on the origin, ground at y = 0; perhaps open right through along z."""

    x: Span
    y: Span
    z: Span
    kind: Kind
    material: str  # key of Shot.materials
    element: str  # e.g. "floor03/column_x1_z2"
    opening: tuple[Span, Span] | None = None  # x, y

    @property
    def volume(self) -> float:
        """[m3]"""
        area = extent(self.x) * extent(self.y) - (extent(self.opening[0]) * extent(self.opening[1]) if self.opening else 0.0)
        return area * extent(self.z)


def extent(span: Span) -> float:
    """Length of a span [m]."""
    return span[1] - span[0]


def frame_boxes(building: Building) -> list[Box]:
    """All members of the block, storey by storey from the ground. Raises ShotError where sizes contradict each other."""
    plan = Plan(building)
    boxes: list[Box] = []
    for storey in range(building.storeys):
        boxes += columns(plan, storey)
        boxes += core_walls(plan, storey)
        boxes += infill(plan, storey)
        boxes += facade(plan, storey)
        boxes += beams(plan, storey)
        boxes += slabs(plan, storey)
        boxes += balconies(plan, storey)
    boxes += parapet(plan)
    boxes += tank_room(plan)
    return boxes


class Plan:
    """Axes and levels of the grid. Line i of n lies at the column axes; bay i lies between lines i and i + 1."""

    def __init__(self, building: Building):
        check(building)
        self.b = building
        self.half = building.column / 2
        self.lines_x = [(i - building.bays_x / 2) * building.bay for i in range(building.bays_x + 1)]
        self.lines_z = [(k - building.bays_z / 2) * building.bay for k in range(building.bays_z + 1)]
        self.front = self.lines_z[-1] + self.half
        self.rear = self.lines_z[0] - self.half
        self.core = (building.bays_x // 2, building.bays_z // 2) if building.core and min(building.bays_x, building.bays_z) > 1 else None

    def level(self, storey: int) -> float:
        """Upper face of the floor on which a storey stands."""
        return storey * self.b.storey_height

    def ceiling(self, storey: int) -> float:
        """Lower face of the slab above a storey."""
        return self.level(storey + 1) - self.b.slab

    def head(self, storey: int) -> float:
        """Lower face of the beams above a storey."""
        return self.ceiling(storey) - self.b.beam_depth

    def floor_name(self, storey: int) -> str:
        """First part of the element names of a storey."""
        return "roof" if storey == self.b.storeys else f"floor{storey:02d}"

    def clear(self, lines: list[float], bay: int) -> Span:
        """Between the column faces of a bay."""
        return lines[bay] + self.half, lines[bay + 1] - self.half

    def full(self, lines: list[float], bay: int) -> Span:
        """From axis to axis, at the ends to the outer column face."""
        lower = lines[bay] - (self.half if bay == 0 else 0.0)
        upper = lines[bay + 1] + (self.half if bay == len(lines) - 2 else 0.0)
        return lower, upper

    def across(self, lines: list[float], line: int, width: float) -> Span:
        """Breadth of a member on a line: centred on the axis, flush with the outer column face on the outer lines."""
        if line == 0:
            return lines[0] - self.half, lines[0] - self.half + width
        if line == len(lines) - 1:
            return lines[-1] + self.half - width, lines[-1] + self.half
        return lines[line] - width / 2, lines[line] + width / 2

    def core_edge(self, axis: Literal["x", "z"], bay: int, line: int) -> bool:
        """Whether the run along `axis` in this bay, on this line across it, is a wall of the core."""
        if self.core is None:
            return False
        along, beside = self.core if axis == "x" else self.core[::-1]
        return bay == along and line in (beside, beside + 1)


def check(building: Building) -> None:
    """Sizes that cannot stand together are an error before anything is built."""
    b = building
    for name in ("beam_width", "core_thickness", "infill_thickness"):
        if getattr(b, name) > b.column:
            raise ShotError(f"building.{name} = {getattr(b, name)}: want at most building.column = {b.column}")
    if b.column >= 0.8 * b.bay:
        raise ShotError(f"building.column = {b.column}: want less than 0.8 of building.bay = {b.bay}")
    clear = b.storey_height - b.slab - b.beam_depth
    if clear < 1.0:
        raise ShotError(f"building.storey_height = {b.storey_height}: slab and beam leave {clear:.2f} m, want at least 1 m")


def spread(count: int, share: float) -> bool:
    """Whether item `count` of an endless row is taken when `share` of them are, evenly spread."""
    return int((count + 1) * share + 1e-9) > int(count * share + 1e-9)


def columns(plan: Plan, storey: int) -> Iterator[Box]:
    """A column at every crossing of lines, from floor to slab."""
    side, y = plan.half, (plan.level(storey), plan.ceiling(storey))
    for i, x in enumerate(plan.lines_x):
        for k, z in enumerate(plan.lines_z):
            name = f"{plan.floor_name(storey)}/column_x{i}_z{k}"
            yield Box((x - side, x + side), y, (z - side, z + side), "column", "concrete", name)


def beams(plan: Plan, storey: int) -> Iterator[Box]:
    """Beams both ways under the slab over a storey, between column faces; none where the core has a wall."""
    y, floor, width = (plan.head(storey), plan.ceiling(storey)), plan.floor_name(storey + 1), plan.b.beam_width
    for i in range(plan.b.bays_x):
        for k in range(plan.b.bays_z + 1):
            if not plan.core_edge("x", i, k):
                z = plan.across(plan.lines_z, k, width)
                yield Box(plan.clear(plan.lines_x, i), y, z, "beam", "concrete", f"{floor}/beam_x{i}_z{k}_x")
    for k in range(plan.b.bays_z):
        for i in range(plan.b.bays_x + 1):
            if not plan.core_edge("z", k, i):
                x = plan.across(plan.lines_x, i, width)
                yield Box(x, y, plan.clear(plan.lines_z, k), "beam", "concrete", f"{floor}/beam_x{i}_z{k}_z")


def slabs(plan: Plan, storey: int) -> Iterator[Box]:
    """One slab a bay over a storey, axis to axis; in the core a ring of four around the shaft."""
    y, floor = (plan.ceiling(storey), plan.level(storey + 1)), plan.floor_name(storey + 1)
    for i in range(plan.b.bays_x):
        for k in range(plan.b.bays_z):
            x, z = plan.full(plan.lines_x, i), plan.full(plan.lines_z, k)
            name = f"{floor}/slab_x{i}_z{k}"
            if (i, k) == plan.core:
                yield from ring(x, y, z, name)
            else:
                yield Box(x, y, z, "slab", "concrete", name)


def ring(x: Span, y: Span, z: Span, name: str) -> Iterator[Box]:
    """A slab with a shaft through the middle half of each direction."""
    x1, x2 = 0.75 * x[0] + 0.25 * x[1], 0.25 * x[0] + 0.75 * x[1]
    z1, z2 = 0.75 * z[0] + 0.25 * z[1], 0.25 * z[0] + 0.75 * z[1]
    for part_x, part_z in (((x[0], x1), z), ((x2, x[1]), z), ((x1, x2), (z[0], z1)), ((x1, x2), (z2, z[1]))):
        yield Box(part_x, y, part_z, "slab", "concrete", name)


def core_walls(plan: Plan, storey: int) -> Iterator[Box]:
    """Four walls between the columns of the core bay, a door in the street side."""
    if plan.core is None:
        return
    i, k = plan.core
    b, floor = plan.b, plan.floor_name(storey)
    level, ceiling = plan.level(storey), plan.ceiling(storey)
    x, z = plan.clear(plan.lines_x, i), plan.clear(plan.lines_z, k)
    for side, line in (("left", i), ("right", i + 1)):
        across = plan.across(plan.lines_x, line, b.core_thickness)
        yield Box(across, (level, ceiling), z, "core", "concrete", f"{floor}/core_{side}")
    across = plan.across(plan.lines_z, k, b.core_thickness)
    yield Box(x, (level, ceiling), across, "core", "concrete", f"{floor}/core_rear")
    across, name = plan.across(plan.lines_z, k + 1, b.core_thickness), f"{floor}/core_front"
    door = min(b.door_width, 0.8 * extent(x)) / 2
    middle, top = (x[0] + x[1]) / 2, level + min(b.door_height, 0.9 * (ceiling - level))
    yield Box((x[0], middle - door), (level, ceiling), across, "core", "concrete", name)
    yield Box((middle + door, x[1]), (level, ceiling), across, "core", "concrete", name)
    yield Box((middle - door, middle + door), (top, ceiling), across, "core", "concrete", name)


def infill(plan: Plan, storey: int) -> Iterator[Box]:
    """Brick between the columns of the party walls, floor to beam, flush outside."""
    y, floor = (plan.level(storey), plan.head(storey)), plan.floor_name(storey)
    for side, line in (("left", 0), ("right", plan.b.bays_x)):
        x = plan.across(plan.lines_x, line, plan.b.infill_thickness)
        for k in range(plan.b.bays_z):
            if spread(storey * plan.b.bays_z + k, plan.b.infill) and not plan.core_edge("z", k, line):
                yield Box(x, y, plan.clear(plan.lines_z, k), "infill", "brick", f"{floor}/infill_{side}_z{k}")


def facade(plan: Plan, storey: int) -> Iterator[Box]:
    """Panels hung outside the frame: street front and rear, a bay wide and a storey high."""
    b = plan.b
    if storey == 0 and b.ground_floor_open:
        return
    for side in ("front", "rear"):
        z = (plan.front, plan.front + b.facade_thickness) if side == "front" else (plan.rear - b.facade_thickness, plan.rear)
        for i in range(b.bays_x):
            if not spread(storey * b.bays_x + i, b.facade):
                continue
            balcony = side == "front" and has_balcony(plan, storey, i)
            lower = plan.level(storey) - (0.0 if balcony or storey == 0 else b.slab)
            window = 0.0 if plan.core_edge("x", i, b.bays_z if side == "front" else 0) else b.window
            name = f"{plan.floor_name(storey)}/facade_{side}_x{i}"
            x, opening = plan.full(plan.lines_x, i), window_of(plan, i, storey, window, lower if balcony else None)
            yield Box(x, (lower, plan.ceiling(storey)), z, "facade", "facade", name, opening)


def window_of(plan: Plan, bay: int, storey: int, share: float, threshold: float | None) -> tuple[Span, Span] | None:
    """Opening in a bay: from sill to beam, `share` of the clear bay in area; a balcony door is as wide but starts at its threshold."""
    clear, level, head = plan.clear(plan.lines_x, bay), plan.level(storey), plan.head(storey)
    sill = level + min(plan.b.sill, 0.6 * (head - level))
    half = min(share * (head - level) / (head - sill), 0.9) * extent(clear) / 2
    middle = (clear[0] + clear[1]) / 2
    return ((middle - half, middle + half), (sill if threshold is None else threshold, head)) if half > 0 else None


def has_balcony(plan: Plan, storey: int, bay: int) -> bool:
    """Every second bay counted from both corners, above the ground floor."""
    return storey > 0 and plan.b.balcony > 0 and min(bay, plan.b.bays_x - 1 - bay) % 2 == 0


def balconies(plan: Plan, storey: int) -> Iterator[Box]:
    """Slabs that cantilever from the floor slab of a storey, with a parapet on three sides."""
    b, level, floor = plan.b, plan.level(storey), plan.floor_name(storey)
    thick, outer = b.facade_thickness, plan.front + b.balcony
    for i in range(b.bays_x):
        if not has_balcony(plan, storey, i):
            continue
        x, name = plan.full(plan.lines_x, i), f"{floor}/balcony_x{i}"
        yield Box(x, (level - b.slab, level), (plan.front, outer), "slab", "concrete", name)
        if b.balcony <= 2.5 * thick or b.sill == 0.0:
            continue
        y, side = (level, level + b.sill), (plan.front + thick, outer - thick)
        yield Box(x, y, (outer - thick, outer), "wall", "facade", name)
        yield Box((x[0], x[0] + thick), y, side, "wall", "facade", name)
        yield Box((x[1] - thick, x[1]), y, side, "wall", "facade", name)


def parapet(plan: Plan) -> Iterator[Box]:
    """The wall around the roof, bay by bay: facade material on the streets, brick on the party walls."""
    b = plan.b
    if b.parapet == 0.0:
        return
    level = plan.level(b.storeys)
    y, thick = (level, level + b.parapet), b.facade_thickness
    for i in range(b.bays_x):
        x = plan.full(plan.lines_x, i)
        yield Box(x, y, (plan.front - thick, plan.front), "wall", "facade", f"roof/parapet_front_x{i}")
        yield Box(x, y, (plan.rear, plan.rear + thick), "wall", "facade", f"roof/parapet_rear_x{i}")
    left, right, brick = plan.lines_x[0] - plan.half, plan.lines_x[-1] + plan.half, b.infill_thickness
    for k in range(b.bays_z):
        z = plan.full(plan.lines_z, k)
        z = (z[0] + (thick if k == 0 else 0.0), z[1] - (thick if k == b.bays_z - 1 else 0.0))
        yield Box((left, left + brick), y, z, "wall", "brick", f"roof/parapet_left_z{k}")
        yield Box((right - brick, right), y, z, "wall", "brick", f"roof/parapet_right_z{k}")


def tank_room(plan: Plan) -> Iterator[Box]:
    """Lift machines and water tank: a core clear of the roof's edge goes one storey above it, under its own slab."""
    if plan.core is None or min(plan.b.bays_x, plan.b.bays_z) < 3:
        return
    i, k = plan.core
    top = plan.b.storeys
    yield from core_walls(plan, top)
    y, side = (plan.level(top), plan.ceiling(top)), plan.half
    for a in (i, i + 1):
        for c in (k, k + 1):
            x, z = plan.lines_x[a], plan.lines_z[c]
            yield Box((x - side, x + side), y, (z - side, z + side), "column", "concrete", f"roof/core_column_x{a}_z{c}")
    x = (plan.lines_x[i] - side, plan.lines_x[i + 1] + side)
    z = (plan.lines_z[k] - side, plan.lines_z[k + 1] + side)
    yield Box(x, (plan.ceiling(top), plan.level(top + 1)), z, "slab", "concrete", "roof/core_slab")
