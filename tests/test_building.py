"""The parametric block: boxes that abut, carry each other, and weigh what the formulas say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from assets.building import build, frame_building
from assets.frame import Box, extent, frame_boxes
from shot.errors import ShotError
from shot.frames import FrameFolder
from shot.load import shot_load
from shot.params import Building, Event, Materials, Shot
from shot.results import MEMBER_KINDS, progress_silent
from shot.results import Building as BuildingResult

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = {
    "default": Building(),
    "one bay": Building(storeys=1, bays_x=1, bays_z=1),
    "two by two": Building(storeys=3, bays_x=2, bays_z=2),
    "odd": Building(storeys=2, bays_x=5, bays_z=4, infill=0.6, facade=0.4, window=0.0, balcony=0.0, ground_floor_open=False),
    "thick": Building(storeys=2, bays_x=3, bays_z=3, column=0.6, beam_width=0.6, core_thickness=0.6, infill_thickness=0.5, parapet=0.0),
}
BARE = {"core": False, "infill": 0.0, "facade": 0.0, "balcony": 0.0, "parapet": 0.0}


def spans(boxes: list[Box]) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corners (M, 3)."""
    array = np.array([[box.x, box.y, box.z] for box in boxes])
    return array[:, :, 0], array[:, :, 1]


def shared(boxes: list[Box]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs (P, 2) whose closed boxes meet, the extents (P, 3) of what they share (0 where faces touch), and its lower corner."""
    lower, upper = spans(boxes)
    overlap = np.minimum(upper[:, None], upper[None]) - np.maximum(lower[:, None], lower[None])
    a, b = np.nonzero(np.triu((overlap > -1e-9).all(axis=2), 1))
    return np.stack([a, b], axis=1), overlap[a, b], np.maximum(lower[a], lower[b])


def contact_area(boxes: list[Box], a: int, b: int, size: np.ndarray, lower: np.ndarray) -> float:
    """Area of the face that two boxes share, openings taken out; 0 for edges and corners."""
    flat = np.abs(size) < 1e-9
    if flat.sum() != 1:
        return 0.0
    area = float(np.prod(size[~flat]))
    for box in (boxes[a], boxes[b]):
        if box.opening and flat[2]:
            hole = np.array(box.opening)
            area -= float(np.prod(np.maximum(0, np.minimum(hole[:, 1], (lower + size)[:2]) - np.maximum(hole[:, 0], lower[:2]))))
    return area


@pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS.keys())
def test_members_do_not_overlap(params):
    """No two boxes share volume: the extents of what they share have a zero among them."""
    _, size, _ = shared(frame_boxes(params))
    assert (size.min(axis=1) < 1e-9).all()


@pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_member_is_carried(params):
    """Through faces of at least 100 cm2 every member reaches the ground, and every column stands on something as wide as half of it."""
    boxes = frame_boxes(params)
    pairs, size, lower = shared(boxes)
    area = np.array([contact_area(boxes, a, b, s, low) for (a, b), s, low in zip(pairs, size, lower, strict=True)])
    ground = len(boxes)
    links = [*pairs[area > 0.01].tolist(), *([i, ground] for i, box in enumerate(boxes) if box.y[0] == 0.0)]
    a, b = np.array(links).T
    number, _ = connected_components(coo_array((np.ones(len(a)), (a, b)), (ground + 1,) * 2), directed=False)
    assert number == 1
    for i, box in enumerate(boxes):
        if box.kind == "column" and box.y[0] > 0.0:
            under = (np.abs(size[:, 1]) < 1e-9) & (pairs == i).any(axis=1) & (np.abs(lower[:, 1] - box.y[0]) < 1e-9)
            assert area[under].sum() > 0.5 * params.column**2


def test_volume_of_one_bay():
    """One bay, one storey: V = 4 c^2 (H - s) + 4 (B - c) b d + (B + c)^2 s, with and without what hangs on it."""
    p = Building(storeys=1, bays_x=1, bays_z=1, **BARE)
    c, B, H, s = p.column, p.bay, p.storey_height, p.slab
    frame = 4 * c**2 * (H - s) + 4 * (B - c) * p.beam_width * p.beam_depth + (B + c) ** 2 * s
    assert sum(box.volume for box in frame_boxes(p)) == pytest.approx(frame, rel=1e-12)
    head, t, outer = H - s - p.beam_depth, p.facade_thickness, B + c
    walls = 2 * (B - c) * head * p.infill_thickness
    panel = outer * (H - s) - p.window * (B - c) * head  # window is a share of the clear bay, floor to beam
    p = Building(storeys=1, bays_x=1, bays_z=1, ground_floor_open=False, parapet=0.0)
    assert sum(box.volume for box in frame_boxes(p)) == pytest.approx(frame + walls + 2 * t * panel, rel=1e-12)


@pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS.keys())
def test_members_are_closed_and_outward(params):
    """Each member's mesh is watertight, encloses the box's volume with the sign of outward faces, and `convex` says whether it is open."""
    boxes, building = frame_boxes(params), frame_building(params)
    for m, box in enumerate(boxes):
        vertex = building.vertex[building.vertex_start[m] : building.vertex_start[m + 1]]
        face = building.face[building.face_start[m] : building.face_start[m + 1]]
        mesh = trimesh.Trimesh(vertex, face, process=False)
        assert mesh.is_watertight and mesh.is_winding_consistent
        assert mesh.volume == pytest.approx(box.volume, rel=1e-9)
        assert building.member_convex[m] == (box.opening is None)
        assert building.member_grounded[m] == (vertex[:, 1].min() == 0.0)
        assert building.element_name[building.member_element[m]] == box.element
        assert MEMBER_KINDS[building.member_kind[m]] == box.kind


def test_default_block_is_an_apartment_house():
    """Ten storeys centred on the origin, 500 to 1000 members, every second corner bay with a balcony, window share as asked."""
    params = Building()
    boxes, building = frame_boxes(params), frame_building(params)
    assert 500 <= len(boxes) <= 1000
    low, high = building.vertex.min(axis=0), building.vertex.max(axis=0)
    assert low[1] == 0.0 and 30.0 < high[1] < 35.0
    assert low[0] == pytest.approx(-high[0])
    columns = [box for box in boxes if box.kind == "column" and box.y[0] == 0.0]
    assert len(columns) == (params.bays_x + 1) * (params.bays_z + 1)
    balconies = {box.element for box in boxes if "/balcony" in box.element}
    assert len(balconies) == 2 * (params.storeys - 1)
    assert not any(box.kind == "facade" and box.y[0] == 0.0 for box in boxes)  # shops
    windows = [box.opening for box in boxes if box.opening and "rear" in box.element]
    clear = (params.bay - params.column) * (params.storey_height - params.slab - params.beam_depth)
    assert len(windows) == params.bays_x * (params.storeys - 1)
    for x, y in windows:
        assert extent(x) * extent(y) == pytest.approx(params.window * clear)


def test_the_block_can_stand():
    """All weight on the ground-floor columns alone gives less than 8 MPa, a third of the concrete's strength."""
    boxes = frame_boxes(Building())
    weight = 9.81 * sum(box.volume * getattr(Materials(), box.material).density for box in boxes)
    section = sum(extent(box.x) * extent(box.z) for box in boxes if box.kind == "column" and box.y[0] == 0.0)
    assert weight / section < 8e6


def test_shares_are_met():
    """`infill` = 0.6 fills six of ten outer bays, evenly; 0 and 1 fill none and all."""
    for share in (0.0, 0.6, 1.0):
        boxes = frame_boxes(Building(storeys=5, bays_z=4, infill=share))
        assert sum(box.kind == "infill" for box in boxes) == round(2 * 5 * 4 * share)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"beam_width": 0.5}, "beam_width"), ({"column": 1.7, "bay": 2.0}, "column"), ({"beam_depth": 1.9}, "storey_height")],
)
def test_sizes_that_contradict_are_named(change, named):
    """Members that would overlap are refused with the parameter's name."""
    with pytest.raises(ShotError, match=f"building.{named}"):
        frame_boxes(Building(**change))


def test_stage_saves_and_repeats(tmp_path):
    """`build` saves what it returns, and two runs give the same bytes."""
    shot = Shot(building=Building(storeys=2))
    first = build(shot, FrameFolder(tmp_path / "a"), tmp_path, progress_silent)
    build(shot, FrameFolder(tmp_path / "b"), tmp_path, progress_silent)
    for name in ("building.npz", "building_plain.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    back = BuildingResult.load(FrameFolder(tmp_path / "a"))
    assert back.element_name == first.element_name and (back.vertex == first.vertex).all()


@pytest.mark.parametrize("path", sorted([*ROOT.glob("assets/shots/*.toml"), *ROOT.glob("tests/shots/*.toml")]), ids=lambda p: p.stem)
def test_bundled_shots_build(path, tmp_path):
    """Every bundled shot is valid, its building builds, and its events' boxes hold members of the kinds they name."""
    loaded = shot_load(path)
    building = build(loaded.shot, FrameFolder(tmp_path), loaded.base, progress_silent)
    assert building.member_grounded.any()
    start = building.vertex_start[:-1]
    low, high = np.minimum.reduceat(building.vertex, start), np.maximum.reduceat(building.vertex, start)
    kind = np.array(MEMBER_KINDS)[building.member_kind]
    for event in loaded.shot.events:
        assert event.frame in loaded.shot.frame_range
        if not isinstance(event, Event):
            continue
        inside = ((high > event.lower) & (low < event.upper)).all(axis=1)
        for member in event.members or set(kind):
            assert (inside & (kind == member)).any()
