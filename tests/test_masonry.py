"""Walls of masonry: what the pattern of joints must be, and that walls crack along it, where and when an estimate by hand says.

References: Mann and Mueller (1982) and Mohr-Coulomb for racking, as in DIN EN 1996-1-1/NA; the kinematic theorem of limit analysis for
overhangs. A wall that loses half its support drops the wedge under a staircase from the edge of the support: k = H / lap, the height of
a course over half a block. Its weight is gamma t k a^2 / 2 (a the overhang), and what holds it are bed joints over its length a in
tension and head joints over its height k a in shear: n (gamma t k a^2 / 2) = f t a + c_h t k a gives the multiple n of its own weight at
which it parts if joints were plastic. They are brittle: the wedge hangs by its centre, a third from its outer end, so that a linear stress
peaks there at twice its mean and the first joint fails at n / 2.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import manifold3d
import numpy as np
import pytest
from building_boxes import box, box_mesh, building_of

from shot.frames import FrameFolder
from shot.params import Event, Fracture, Materials, Mortar, Shot, Sim
from shot.results import BOND_BROKEN, GROUND, MEMBER_KINDS, Bonds, Building, Fragments, progress_silent
from shot.rotation import matrix
from sim.bond import Breakage, bonds_fail, sections, stiffness_left
from sim.cluster import bonds_inside, clusters
from sim.fracture import member_wall, shatter
from sim.mass import mass_properties
from sim.respond import Elastic, respond
from sim.stress import lattice_build, lattice_soften

UNIT = (0.25, 0.075)
EXACT = 1e-9
TURNED = matrix(np.array([np.cos(0.3), 0.0, np.sin(0.3), 0.0]))  # about the vertical by 0.6 rad
LIME = Mortar(tension=0.03e6, cohesion=0.05e6, fracture_energy=2.0)
GAMMA = 1600 * 9.81
THICK = 0.24


def mesh_of(solid: manifold3d.Manifold) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a manifold."""
    mesh = solid.to_mesh64()
    return np.array(mesh.vert_properties)[:, :3], np.array(mesh.tri_verts).astype(np.int32)


def cube(size, at) -> manifold3d.Manifold:
    """Box with its lower corner at `at`."""
    return manifold3d.Manifold.cube(size).translate(at)


def brick(name: str) -> Building:
    """A member of brick, standing on the ground."""
    gable = manifold3d.CrossSection([np.array([[-3, 0], [3, 0], [3, 2.5], [0, 5], [-3, 2.5]], float)])
    windows = cube((6, 3, 0.25), (-3, 0, 0)) - cube((1.4, 1.2, 1), (-1.7, 0.9, -0.4)) - cube((1, 2.1, 1), (1, -0.1, -0.4))
    arch = cube((5, 4, 0.3), (0, 0, 0)) - manifold3d.Manifold.cylinder(2, 1.2, 1.2, 32).translate((2.5, 1.2, -0.5))
    room = cube((5, 3, 4), (0, 0, 0)) - cube((4.6, 2.6, 3.6), (0.2, 0.2, 0.2))
    meshes = {
        "windows": mesh_of(windows), "arch": mesh_of(arch), "room": mesh_of(room),
        "gable": mesh_of(manifold3d.Manifold.extrude(gable, 0.3)),
        "leaning": mesh_of(cube((4, 3, 0.2), (0, 0, 0)).rotate((40, 0, 0))),
    }
    if name in meshes:
        return building_of([("mesh", "brick", *meshes[name], name in ("gable", "leaning"), True)])
    if name == "turned":
        vertex, face = box_mesh((0, 0.3, 0), (4, 2.7, 0.24))
        return building_of([("wall", "brick", vertex @ TURNED.T + [20.0, 0.0, 7.0], face, True, False)])
    extent = {"infill": (3.55, 2.37, 0.2), "pier": (0.5, 2.4, 0.3), "block": (3.0, 3.0, 3.0), "slab": (4.0, 0.2, 3.0)}[name]
    return building_of([box("infill" if name == "infill" else "wall", (0, 0, 0), extent, "brick", True)])


WALLS = ("infill", "turned", "windows", "arch", "gable", "pier")


@pytest.fixture
def broken(tmp_path):
    """Function: shatter a building."""
    def run(what: Building, shot: Shot) -> tuple[Fragments, Bonds]:
        return shatter(shot, what, FrameFolder(tmp_path / "out"), progress_silent)
    return run


def shot_of(piece: float, masonry: str = "courses", seed: int = 1, **more) -> Shot:
    """A shot of one pattern; bricks without scatter if `weibull` is 0."""
    rows = {"materials": Materials(brick={"weibull": more.pop("weibull")})} if "weibull" in more else {}  # type: ignore[arg-type]
    return Shot(seed=seed, fracture=Fracture(piece=piece, masonry=masonry, **more), **rows)  # type: ignore[arg-type]


def face_areas(fragments: Fragments) -> np.ndarray:
    """(T) area of each triangle of the pieces."""
    corner = fragments.vertex[fragments.face + np.repeat(fragments.vertex_start[:-1], np.diff(fragments.face_start))[:, None]].astype(float)
    return 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)


@pytest.mark.parametrize("piece", [1.2, 0.5])
@pytest.mark.parametrize("name", WALLS)
def test_blocks_fill_the_wall(broken, name, piece):
    """Volumes sum to the member's; cut faces are the bonds, each seen from both sides; all other faces are the member's surface."""
    what = brick(name)
    fragments, bonds = broken(what, shot_of(piece))
    volume = mass_properties(what.vertex, what.vertex_start, what.face, what.face_start)[0]
    corner = what.vertex[what.face]
    surface = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1).sum()
    assert member_wall(shot_of(piece), what, 0) is not None
    assert fragments.volume.sum() == pytest.approx(volume.sum(), rel=EXACT)
    area, inner = face_areas(fragments), bonds.fragment_b != GROUND
    seams = 1e-3 if name == "arch" else 1e-5  # glued splinters; f32 vertices
    assert area[fragments.face_interior].sum() == pytest.approx(2.0 * bonds.area[inner].sum(), rel=seams)
    assert area[~fragments.face_interior].sum() == pytest.approx(surface, rel=1e-5)
    assert fragments.volume.min() > 0.04 * np.median(fragments.volume)


@pytest.mark.parametrize("name", ["infill", "turned", "windows"])
def test_running_bond(broken, name):
    """Bed joints are level, at multiples of a brick's height; head joints upright, at half bricks, a quarter block from those below."""
    piece, what = 0.6, brick(name)
    _, bonds = broken(what, shot_of(piece))
    wall = member_wall(shot_of(piece), what, 0)
    assert wall is not None
    bonds = rows_of(bonds, bonds.fragment_b != GROUND)
    bed = np.abs(bonds.normal[:, 1]) > 0.5
    np.testing.assert_allclose(np.abs(bonds.normal[bed, 1]), 1.0, atol=1e-7)
    np.testing.assert_allclose(np.abs(bonds.normal[~bed] @ wall.frame[0]), 1.0, atol=1e-7)
    level = np.unique(np.round(bonds.centroid[bed, 1], 6))
    sills = (0.9, 2.1)
    off = np.abs(level / UNIT[1] - np.round(level / UNIT[1]))
    assert np.all((off < 1e-4) | np.isclose(level[:, None], sills, atol=1e-6).any(axis=1))
    place = bonds.centroid[~bed] @ wall.frame[0]
    np.testing.assert_allclose(place / (UNIT[0] / 2), np.round(place / (UNIT[0] / 2)), atol=1e-6)
    course = np.searchsorted(level, bonds.centroid[~bed, 1])
    for k in range(len(level)):
        here, below = place[course == k + 1], place[course == k]
        assert np.abs(here[:, None] - below[None]).min(initial=9.0) >= 0.25 * piece * np.sqrt(2.0) - 0.125


@pytest.mark.parametrize("piece", [0.4, 0.6, 0.9, 1.2, 4.0])
def test_number_of_blocks(broken, piece):
    """About as many blocks as Voronoi cells of the same piece size, and at least six to an infill panel."""
    blocks, cells = (broken(brick("infill"), shot_of(piece, masonry))[0].count for masonry in ("courses", "cells"))
    assert blocks >= 6 and 0.75 <= blocks / cells <= 1.35
    assert broken(brick("infill"), shot_of(0.05))[0].count <= 3.55 * 2.37 / (UNIT[0] * UNIT[1]) * 1.1  # no finer than bricks


def test_no_wall_no_courses():
    """Rooms in one piece, thick blocks, slabs, leaning walls and materials without bricks are cut into cells; so is all if wanted."""
    for name in ("room", "block", "slab", "leaning"):
        assert member_wall(shot_of(0.6), brick(name), 0) is None
    assert member_wall(shot_of(0.6), building_of([box("wall", (0, 0, 0), (4, 2.4, 0.2))]), 0) is None
    assert member_wall(shot_of(0.6, "cells"), brick("infill"), 0) is None


def test_joints_are_as_strong_as_mortar(broken):
    """Bed joints have the mortar's strength, head joints its share; the panel's edges and a wall in cells have the brick's."""
    mortar = Mortar(tension=0.11e6, cohesion=0.22e6, friction_angle=30.0, fracture_energy=7.0, head=0.4)
    what = building_of([box("infill", (0, 0, 0), (3.5, 2.4, 0.2), "brick", True), box("beam", (0, 2.4, 0), (3.5, 2.8, 0.3))])
    fragments, bonds = broken(what, shot_of(0.6, mortar=mortar, weibull=0.0))
    inside = ~bonds.joint & (fragments.member[bonds.fragment_a] == 0)
    bed, head = (inside & (up == (np.abs(bonds.normal[:, 1]) > 0.5)) for up in (True, False))
    edge = bonds.joint & (fragments.member[bonds.fragment_a] == 0) & (bonds.fragment_b != GROUND)
    for rows, share in ((bed, 1.0), (head, 0.4)):
        np.testing.assert_allclose(bonds.tension[rows], share * 0.11e6)
        np.testing.assert_allclose(bonds.cohesion[rows], share * 0.22e6)
        np.testing.assert_allclose(bonds.fracture_energy[rows], share * 7.0)
        np.testing.assert_allclose(bonds.friction[rows], np.tan(np.radians(30.0)))
        np.testing.assert_allclose(bonds.compression[rows], 6e6)
    np.testing.assert_allclose(bonds.tension[edge], 0.5 * 0.25e6)
    fragments, bonds = broken(what, shot_of(0.6, "cells", mortar=mortar, weibull=0.0))
    np.testing.assert_allclose(bonds.tension[~bonds.joint & (fragments.member[bonds.fragment_a] == 0)], 0.25e6)


def rows_of(bonds: Bonds, rows: np.ndarray) -> Bonds:
    """Some of the bonds."""
    return Bonds(**{f.name: getattr(bonds, f.name)[rows] for f in fields(bonds)})


@dataclass(frozen=True)
class Crack:
    """When the first bed joint broke and the wall fell in parts, as factors on the growing load, and what had broken by then."""

    first: float
    parts: float
    bonds: Bonds
    broken: np.ndarray  # (B) bool

    @property
    def bed(self) -> np.ndarray:
        """Places (n, 2) of broken bed joints."""
        return self.bonds.centroid[self.broken & (np.abs(self.bonds.normal[:, 1]) > 0.999)][:, :2]

    @property
    def head(self) -> np.ndarray:
        """Places (n, 2) of broken head joints."""
        return self.bonds.centroid[self.broken & (np.abs(self.bonds.normal[:, 1]) < 0.001)][:, :2]

    @property
    def along_joints(self) -> float:
        """Share of the broken area that is level or upright."""
        area = self.bonds.area * self.broken
        up = np.abs(self.bonds.normal[:, 1])
        return float(area[(up > 0.999) | (up < 0.001)].sum() / area.sum())

    def corners(self, reach: float) -> np.ndarray:
        """(n, 2) from broken head joints to broken bed joints within `reach` [m]: the steps of a staircase, going up."""
        step = (self.bed[None] - self.head[:, None]).reshape(-1, 2)
        step = step[np.linalg.norm(step, axis=1) < reach]
        return step * np.sign(step[:, 1:])


def loaded(fragments: Fragments, bonds: Bonds, dead: np.ndarray, live: np.ndarray, factors: np.ndarray) -> Crack | None:
    """Raise loads (F, 6) dead + factor * live, quasi-static, breaking the worst joints first, until the wall is in parts."""
    sim, count, every, first = Sim(), fragments.count, np.ones(fragments.count, bool), None
    lattice, section, breakage = lattice_build(fragments, bonds), sections(bonds, sim), Breakage.none(bonds.count)
    whole, bed = clusters(bonds, breakage.state, count), ~bonds.joint & (np.abs(bonds.normal[:, 1]) > 0.5)
    for factor in factors:
        while True:
            inside = bonds_inside(bonds, breakage.state, *whole)
            answer = respond(lattice, Elastic.still(count), *whole, inside, every, dead + factor * live, 1.0, sim, False)
            assert answer is not None
            failure = bonds_fail(section, breakage, bonds, answer.bond, answer.strain, sim, count)
            if not len(failure.changed):
                break
            if first is None and bed[failure.broken].any():
                first = float(factor)
            lattice_soften(lattice, failure.changed, stiffness_left(section, breakage, failure.changed))
            if not np.array_equal(clusters(bonds, breakage.state, count)[0], whole[0]):
                return Crack(float(factor) if first is None else first, float(factor), bonds, breakage.state == BOND_BROKEN)
    return None


def half_supported(broken, shot: Shot) -> tuple[Fragments, Bonds, np.ndarray]:
    """A wall of 4 x 4 m without ground under its right half, a concrete block on its left so that it does not tip; its weight (F, 6)."""
    fragments, bonds = broken(building_of([
        box("wall", (-2, 0, -THICK / 2), (2, 4, THICK / 2), "brick", True), box("beam", (-2, 4, -0.5), (0, 4.5, 0.5)),
    ]), shot)
    weight = np.zeros((fragments.count, 6))
    weight[:, 1] = -9.81 * fragments.mass
    return fragments, rows_of(bonds, (bonds.fragment_b != GROUND) | (bonds.centroid[:, 0] < 0)), weight


GROWING = 1.03 ** np.arange(0.0, 60.0)  # 1 to 5.7


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_half_the_support_lost(broken, record_property, seed):
    """Cracks run up in steps from the edge of the support, k = H / lap, at 1/2 to 1 of the load that plastic joints would bear."""
    piece, a = 0.35, 2.0
    fragments, bonds, weight = half_supported(broken, shot_of(piece, seed=seed, mortar=LIME))
    crack = loaded(fragments, bonds, 0.0 * weight, weight, GROWING)
    assert crack is not None
    k = (4.0 / 16) / (0.5 * 0.5)  # 16 courses, blocks of two bricks
    bound = (LIME.tension * a + LIME.head * LIME.cohesion * k * a) / (0.5 * GAMMA * k * a**2)
    wedge = crack.bonds.centroid[:, 0] > 0.2
    stairs = Crack(crack.first, crack.parts, crack.bonds, crack.broken & wedge)
    foot, steps = min(stairs.head.tolist()), stairs.corners(0.35)
    rise = np.polyfit(stairs.head[:, 0], stairs.head[:, 1], 1)[0]
    up = stairs.head[np.argsort(stairs.head[:, 0])][:, 1]
    record_property("parts at times its weight, plastic bound", f"{crack.parts:.2f}, {bound:.2f}")
    record_property("slope of the stairs, of the blocks", f"{rise:.2f}, {k:.2f}")
    assert 0.5 * bound <= crack.parts <= bound
    assert stairs.along_joints > 0.999 and len(stairs.head) >= 3 and len(stairs.bed) >= 3
    assert 0 < foot[0] < 0.8 and foot[1] < 0.3, "starts at the edge of the support"
    assert np.all(np.diff(up) > 0) and 0.6 * k < rise < 1.6 * k
    assert (steps[:, 0] > 0).mean() > 0.6, "away from the support"


def test_half_the_support_lost_in_strong_mortar(broken):
    """Control: mortar thirty times as strong bears all of these loads."""
    strong = Mortar(tension=0.9e6, cohesion=1.5e6, fracture_energy=60.0)
    fragments, bonds, weight = half_supported(broken, shot_of(0.35, mortar=strong))
    assert loaded(fragments, bonds, 0.0 * weight, weight, GROWING) is None


def racked(broken, shot: Shot, pressure: float) -> tuple[Fragments, Bonds, np.ndarray, np.ndarray]:
    """A wall of 4 x 2 m under a stiff beam: weight and `pressure` [Pa], and a push along it of 1 Pa with no moment at half height."""
    length, height, top = 4.0, 2.0, 0.5
    fragments, bonds = broken(building_of([
        box("wall", (-length / 2, 0, -THICK / 2), (length / 2, height, THICK / 2), "brick", True),
        box("beam", (-length / 2, height, -THICK / 2), (length / 2, height + top, THICK / 2)),
    ]), shot)
    beam = fragments.member == 1
    share = np.where(beam, fragments.volume, 0.0) / fragments.volume[beam].sum()
    x, y = fragments.position[:, 0], fragments.position[:, 1]
    dead, live = np.zeros((2, fragments.count, 6))
    dead[:, 1] = -9.81 * fragments.mass - share * pressure * length * THICK
    live[:, 0] = share * length * THICK  # 1 Pa
    live[:, 1] = share * x * ((live[:, 0] * (y - height / 2)).sum() / (share * x**2).sum())
    return fragments, bonds, dead, live


@pytest.mark.parametrize(("mortar", "pressure"), [(LIME, 0.1e6), (LIME, 0.2e6), (LIME, 0.4e6), (Mortar(), 0.4e6), (Mortar(), 0.6e6)])
def test_racking(broken, record_property, mortar, pressure):
    """A wall pressed and pushed along cracks in steps down the pressed diagonal, between Mann-Mueller's and Mohr-Coulomb's shear stress.

    4 x 2 m under a stiff beam that does not turn: the moment is zero at half height. Mohr-Coulomb: tau = c + mu p. Mann and Mueller: head
    joints bear nothing, so that each half block is turned by tau 2 h_b / l_b and one half of it carries that much less: divided by
    1 + mu 2 h_b / l_b. Head joints here bear half of what bed joints do until they fail: between the two.
    """
    crack = loaded(*racked(broken, shot_of(0.35, mortar=mortar), pressure), 0.03e6 * 1.03 ** np.arange(100.0))
    assert crack is not None
    mu = np.tan(np.radians(mortar.friction_angle))
    coulomb = mortar.cohesion + mu * pressure
    mann = coulomb / (1.0 + mu * 2.0 * 0.25 / 0.5)
    steps = crack.corners(0.35)
    record_property("cracks at [MPa], Mann-Mueller, Mohr-Coulomb", " ".join(f"{v * 1e-6:.3f}" for v in (crack.first, mann, coulomb)))
    record_property("steps down the pressed diagonal", f"{(steps[:, 0] < 0).mean():.0%} of {len(steps)}")
    assert 0.85 * mann < crack.first < coulomb  # forces of the lattice are within 9 %, loads grow by 3 %
    assert crack.along_joints > 0.95 and len(steps) > 10 and (steps[:, 0] < 0).mean() > 0.7


def test_racking_in_cells(broken):
    """Control: a wall in Voronoi cells does not break along courses."""
    crack = loaded(*racked(broken, shot_of(0.35, "cells"), 0.2e6), 0.03e6 * 1.03 ** np.arange(100.0))
    assert crack is not None
    inside = Crack(crack.first, crack.parts, crack.bonds, crack.broken & ~crack.bonds.joint)
    assert inside.broken.sum() > 5 and inside.along_joints < 0.2


def plinth_cut(folder: Path, mortar: Mortar) -> tuple[Fragments, Bonds, np.ndarray, np.ndarray]:
    """The wall on two plinths of which the right one is blown away; 1.5 s: pieces, bonds, positions (T, F, 3) [m], what broke (B)."""
    from sim.simulate import simulate

    cut = Event(frame=1003, lower=(0, -1, -9), upper=(9, 0.6, 9), members=("column",), rubble=0.9)
    shot = Shot(frames=37, fracture=Fracture(piece=0.35, mortar=mortar), events=(cut,))
    what = building_of([
        box("wall", (-2, 0.5, -THICK / 2), (2, 4.5, THICK / 2), "brick"), box("beam", (-2, 4.5, -0.5), (0, 5, 0.5)),
        box("core", (-2, 0, -0.25), (0, 0.5, 0.25), grounded=True), box("column", (0, 0, -0.25), (2, 0.5, 0.25), grounded=True),
    ])
    fragments, bonds = shatter(shot, what, FrameFolder(folder / "shatter"), progress_silent)
    motion = simulate(shot, fragments, bonds, FrameFolder(folder / "motion"), shot.frame_range, progress_silent)
    seen = [motion.frame(frame) for frame in shot.frame_range]
    return fragments, bonds, np.stack([frame["position"] for frame in seen]), seen[-1]["bond_state"] == BOND_BROKEN


@pytest.mark.slow
def test_half_the_support_blown_away(taichi, tmp_path, record_property):
    """In motion: a wall of crumbled mortar drops the steps over the lost half and stands on the other; one of sound mortar stands whole.

    Mortar of 10 and 16 kPa: plastic joints would bear 1.2 times the weight, a load that comes at once counts twice.
    """
    crumbled = Mortar(tension=0.010e6, cohesion=0.016e6, fracture_energy=0.3)
    fragments, bonds, position, broken = plinth_cut(tmp_path / "crumbled", crumbled)
    wall = fragments.kind == MEMBER_KINDS.index("wall")
    sunk = position[0, :, 1] - position[-1, :, 1]
    fallen = wall & (sunk > 0.05)
    place, level = fragments.position[:, 0], np.round(fragments.position[:, 1], 1)
    first = np.array([place[fallen & (level == y)].min() for y in np.unique(level[fallen])])
    joints = ~bonds.joint & broken & wall[bonds.fragment_a]
    record_property("blocks that fell, of; courses", f"{fallen.sum()}, {wall.sum()}; {len(first)}")
    record_property("first block of each course that fell [m]", " ".join(f"{x:.2f}" for x in first))
    assert len(first) >= 4 and np.all(np.diff(first) > -0.3) and first[-1] - first[0] > 0.5, "stairs, up from the edge"
    assert place[fallen].min() > -0.3 and np.abs(sunk[wall & ~fallen]).max() < 0.02
    assert np.isin(np.round(np.abs(bonds.normal[joints, 1]), 6), (0.0, 1.0)).all()
    _, bonds, position, broken = plinth_cut(tmp_path / "sound", Mortar())
    assert not (broken & ~bonds.joint & wall[bonds.fragment_a]).any() and np.ptp(position[:, wall, 1], axis=0).max() < 0.01
