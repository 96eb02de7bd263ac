"""The shatter stage: pieces fill their members exactly, bonds are the exact faces they share, strengths follow the rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import manifold3d
import numpy as np
import pytest
from building_boxes import BOX_FACES, box, box_mesh, building_of, frame_block
from scipy.spatial import ConvexHull
from scipy.special import gamma

from shot.errors import ShotError
from shot.frames import FrameFolder
from shot.params import Fracture, Material, Materials, Shot
from shot.results import GROUND, MEMBER_KINDS, Bonds, Building, Fragments, progress_silent
from shot.rotation import matrix
from sim.adjacency import Piece, contacts_inside
from sim.cover import HULL_VERTICES
from sim.fracture import member_pieces, shatter
from sim.mass import mass_properties
from sim.polyhedron import cut, planes, polyhedron_box, polyhedron_from_mesh, triangles
from sim.scatter_sites import points_on_lines
from sim.section import sections_of
from sim.solid import glued, winding_number
from sim.strength import weibull
from sim.voronoi import cell_counts, sites_of_grid, volumes_of, voronoi_cells

EXACT = 1e-9  # f64 geometry: tens of cuts, each with rounding 1e-16 of the member
TURN = matrix(np.array([0.8, 0.2, -0.5, 0.26]) / np.linalg.norm([0.8, 0.2, -0.5, 0.26]))
EVEN = Shot(fracture=Fracture(jitter=0.0, piece=0.9), materials=Materials(concrete=Material(weibull=0.0, steel=0.015), brick=Material(
    young=4e9, poisson=0.15, tension=0.25e6, compression=6e6, cohesion=0.35e6, friction_angle=34, fracture_energy=20, weibull=0.0)))


def mesh_of(solid: manifold3d.Manifold) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of a manifold."""
    mesh = solid.to_mesh64()
    return np.array(mesh.vert_properties)[:, :3], np.array(mesh.tri_verts).astype(np.int32)


def cube(size, at=(0, 0, 0)) -> manifold3d.Manifold:
    """Box with its lower corner at `at`."""
    return manifold3d.Manifold.cube(size).translate(at)


@lru_cache
def solids() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Closed meshes that are not convex."""
    circle = manifold3d.CrossSection.circle(0.4, 12).translate((1.5, 0))
    return {
        "L": mesh_of(cube((3, 1, 1)) + cube((1, 3, 1))),
        "window": mesh_of(cube((4, 3, 0.2)) - cube((1.4, 1.2, 1), (1.3, 1, -0.4))),
        "torus": mesh_of(manifold3d.Manifold.revolve(circle, 24)),
        "room": mesh_of(cube((5, 3, 4)) - cube((4.6, 2.6, 3.6), (0.2, 0.2, 0.2)) - cube((1, 2, 20), (2, 0.2, -5))),
        "void": mesh_of(cube((1, 1, 1)) - cube((0.1, 0.1, 0.1), (0.1, 0.1, 0.15))),
        "comb": mesh_of(manifold3d.Manifold.batch_boolean(
            [cube((3, 0.3, 1)), *(cube((0.2, 2, 1), (x, 0, 0)) for x in (0.3, 1.4, 2.5))], manifold3d.OpType.Add)),
    }


def solid(name: str) -> Building:
    """Building of one solid."""
    return building_of([("mesh", "concrete", *solids()[name], False, True)])


def convex(name: str) -> Building:
    """Building of one convex member."""
    extent = {"slab": (4, 0.18, 3.5), "column": (0.45, 2.8, 0.45), "block": (2.5, 2.7, 2.9), "facade": (2, 1.5, 0.12)}
    if name in extent:
        return building_of([box(name if name in MEMBER_KINDS else "core", (0, 0, 0), extent[name])])
    if name == "turned":
        vertex, face = box_mesh((0, 0, 0), (3.5, 0.4, 0.3))
        return building_of([("beam", "concrete", vertex @ TURN.T + 50.0, face, True, False)])
    cylinder = mesh_of(manifold3d.Manifold.cylinder(2.8, 0.35, 0.3, 24))
    return building_of([("column", "concrete", *cylinder, True, False)])


CONVEX = ("slab", "column", "block", "facade", "turned", "cylinder")
SOLID = ("L", "window", "torus", "room", "void", "comb")


def building(name: str) -> Building:
    """Convex or not."""
    return convex(name) if name in CONVEX else solid(name)


@pytest.fixture
def broken(tmp_path):
    """Function: shatter a building."""
    def run(what: Building, shot: Shot = EVEN) -> tuple[Fragments, Bonds]:
        return shatter(shot, what, FrameFolder(tmp_path / "out"), progress_silent)
    return run


def member_volume(what: Building, member: int = 0) -> float:
    """Volume of a member's mesh."""
    vertex = what.vertex[what.vertex_start[member] : what.vertex_start[member + 1]]
    face = what.face[what.face_start[member] : what.face_start[member + 1]]
    return float(mass_properties(vertex, np.array([0, len(vertex)]), face, np.array([0, len(face)]))[0][0])


def face_area(vertex: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Area of each triangle."""
    a, b, c = (vertex[face[:, k]].astype(float) for k in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


def shot_jittered(jitter: float = 0.8, seed: int = 1, **fracture) -> Shot:
    """A shot with irregular cuts."""
    return Shot(seed=seed, fracture=Fracture(**{"jitter": jitter, "piece": 0.9, "pieces_min": 6, **fracture}))


@pytest.mark.parametrize("jitter", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("name", CONVEX + SOLID)
def test_volumes_sum_to_the_member(broken, name, jitter):
    """sum V_f = V_m within rounding, mass = density V, and no piece is next to nothing."""
    what = building(name)
    fragments, _ = broken(what, shot_jittered(jitter))
    assert fragments.volume.sum() == pytest.approx(member_volume(what), rel=EXACT)
    np.testing.assert_allclose(fragments.mass, 2400.0 * fragments.volume, rtol=1e-15)
    assert fragments.volume.min() > 0.04 * np.median(fragments.volume)
    assert np.all(np.linalg.eigvalsh(fragments.inertia) > 0.0)


@pytest.mark.parametrize("name", CONVEX + SOLID)
def test_meshes_are_closed_and_outward(broken, name):
    """Each directed edge once and its reverse once; volume of the f32 render mesh is the fragment's, about its centre of mass."""
    fragments, _ = broken(building(name), shot_jittered())
    for f in range(fragments.count):
        face = fragments.face[fragments.face_start[f] : fragments.face_start[f + 1]]
        edges = Counter(tuple(e) for k in range(3) for e in np.stack([face[:, k], face[:, (k + 1) % 3]], axis=1).tolist())
        assert set(edges.values()) == {1} and all((b, a) in edges for a, b in edges)
    volume, centre, inertia = mass_properties(
        fragments.vertex.astype(float), fragments.vertex_start, fragments.face, fragments.face_start
    )
    np.testing.assert_allclose(volume, fragments.volume, rtol=1e-5)  # f32 vertices
    np.testing.assert_allclose(centre, 0.0, atol=1e-6)
    np.testing.assert_allclose(2400 * inertia, fragments.inertia, rtol=1e-4, atol=1e-4 * fragments.inertia.max())


@pytest.mark.parametrize("name", CONVEX + SOLID)
def test_surface_is_the_members(name):
    """Surface faces sum to the member's surface; interior faces come in pairs whose common polygons are the bonds, side by side."""
    what = building(name)
    pieces = member_pieces(shot_jittered(), what, 0)
    contacts = contacts_inside(pieces, 0, bool(what.member_convex[0]))
    section = sections_of([c.polygon for c in contacts], np.array([c.normal for c in contacts]))
    surface = 0.0
    for k, piece in enumerate(pieces):
        interior: dict[tuple[int, int], float] = defaultdict(float)
        for loop, own, other in zip(piece.loop, piece.own, piece.other, strict=True):
            p = piece.vertex[list(loop)]
            area = 0.5 * float(np.linalg.norm(np.cross(p - p[0], np.roll(p, -1, axis=0) - p[0]).sum(axis=0)))
            if other < 0:
                surface += area
            else:
                interior[min(own, other), max(own, other)] += area
        bonded = sum(area for c, area in zip(contacts, section.area, strict=True) if k in (c.a, c.b))
        seams = sum(interior[key] for key in interior if all(key[s] in piece.own for s in (0, 1)))  # glued splinters
        assert bonded == pytest.approx(sum(interior.values()) - seams, rel=1e-7)
    assert surface == pytest.approx(face_area(what.vertex, what.face).sum(), rel=1e-7)


@pytest.mark.parametrize("name", CONVEX + SOLID)
def test_interior_marks(broken, name):
    """Faces marked as cuts lie on no face of the member, the others do."""
    what = building(name)
    fragments, _ = broken(what, shot_jittered())
    owner = np.repeat(np.arange(fragments.count), np.diff(fragments.face_start))
    corner = fragments.vertex[fragments.face + fragments.vertex_start[owner][:, None]] + fragments.position[owner][:, None]
    a, b, c = (what.vertex[what.face[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    gap = np.abs(np.einsum("tki,pi->tkp", corner, normal) - np.einsum("pi,pi->p", normal, a)).max(axis=1).min(axis=1)
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    assert gap[~fragments.face_interior].max() < 2e-5
    assert np.all(gap[fragments.face_interior & (area > 1e-4)] > 1e-4)
    assert fragments.face_interior.any() and not fragments.face_interior.all()


@pytest.mark.parametrize("name", SOLID)
def test_hulls_cover_solids(broken, name):
    """Every vertex of a piece lies in one of its hulls (round pieces: within 1 % of their size); the hulls hold at most 10 % more."""
    fragments, _ = broken(solid(name), shot_jittered())
    total = 0.0
    for f in range(fragments.count):
        vertex = fragments.vertex[fragments.vertex_start[f] : fragments.vertex_start[f + 1]].astype(float)
        inside = np.zeros(len(vertex), bool)
        for c in np.flatnonzero(fragments.hull_fragment == f):
            hull = manifold3d.Manifold.hull_points(
                fragments.hull_vertex[fragments.hull_vertex_start[c] : fragments.hull_vertex_start[c + 1]].astype(float)
            )
            total += hull.volume()
            points, faces = mesh_of(hull)
            normal, offset = planes(polyhedron_from_mesh(points, faces))
            slack = 1e-5 if len(vertex) <= HULL_VERTICES else 0.01 * np.ptp(vertex, axis=0).max()
            inside |= (vertex @ normal.T - offset).max(axis=1) < slack
        assert inside.all()
    assert 0.99 < total / fragments.volume.sum() < 1.1
    assert np.all(np.diff(fragments.hull_fragment) >= 0) and set(fragments.hull_fragment) == set(range(fragments.count))
    assert np.diff(fragments.hull_vertex_start).max() <= HULL_VERTICES


def test_l_shape_is_cut_apart(broken):
    """A piece with a reflex edge becomes hulls that fit exactly: an L of one piece gives two boxes, not one hull 17 % too large."""
    fragments, _ = broken(solid("L"), shot_jittered(piece=20.0))
    assert fragments.count == 1 and len(fragments.hull_fragment) == 2
    for c in range(2):
        hull = fragments.hull_vertex[fragments.hull_vertex_start[c] : fragments.hull_vertex_start[c + 1]]
        assert len(hull) == 8


@pytest.mark.parametrize("name", ["window", "room"])
def test_thin_walls_are_cut_across(broken, name):
    """No piece of a wall thinner than a piece is a sheet: every piece reaches from one side of its wall to the other."""
    fragments, _ = broken(solid(name), shot_jittered())
    for f in range(fragments.count):
        face = slice(fragments.face_start[f], fragments.face_start[f + 1])
        vertex = fragments.vertex[fragments.vertex_start[f] : fragments.vertex_start[f + 1]].astype(float)
        area = face_area(vertex, fragments.face[face])
        surface = area[~fragments.face_interior[face]].sum()
        assert surface > 1.9 * fragments.volume[f] / 0.2  # two sides of a wall 0.2 thick; a sheet has one


def test_grid(broken):
    """jitter = 0 on a beam 3.6 x 0.4 x 0.3: four equal cells; A = 0.12, I = b h^3 / 12, L = 0.9, faces every 0.9, normals along x."""
    fragments, bonds = broken(building_of([box("beam", (0, 0, 0), (3.6, 0.4, 0.3))]))
    assert fragments.count == 4 and bonds.count == 3
    np.testing.assert_allclose(fragments.volume, 0.9 * 0.12, rtol=EXACT)
    np.testing.assert_allclose(fragments.inertia[0], 2400 * 0.108 / 12 * np.diag([0.25, 0.9, 0.97]), atol=1e-9)
    np.testing.assert_allclose(bonds.area, 0.12, rtol=EXACT)
    np.testing.assert_allclose(bonds.centroid, [[x, 0.2, 0.15] for x in (0.9, 1.8, 2.7)], atol=EXACT)
    np.testing.assert_allclose(bonds.normal, [[1, 0, 0]] * 3, atol=EXACT)
    np.testing.assert_allclose(np.abs(bonds.axis), [[0, 0, 1]] * 3, atol=EXACT)
    np.testing.assert_allclose(bonds.second_moment, [[0.3 * 0.4**3 / 12, 0.4 * 0.3**3 / 12]] * 3, rtol=EXACT)
    np.testing.assert_allclose(bonds.reach, [[0.2, 0.15]] * 3, rtol=EXACT)
    np.testing.assert_allclose(bonds.length, 0.9, rtol=EXACT)
    assert not bonds.joint.any()


def test_grid_in_space(broken):
    """jitter = 0 on a cube of 3 x 3 x 3 cells: 54 bonds of 1 m2 although eight cells meet in a point; edges and corners make none."""
    fragments, bonds = broken(building_of([box("core", (0, 0, 0), (3, 3, 3))]), Shot(fracture=Fracture(jitter=0.0, piece=1.0)))
    assert fragments.count == 27 and bonds.count == 54
    np.testing.assert_allclose(bonds.area, 1.0, rtol=EXACT)


def test_counts_fit_the_member():
    """A slab is cut per area, a column per length, a block per volume; a panel has at least pieces_min."""
    np.testing.assert_array_equal(cell_counts(np.array([4, 0.18, 3.5]), 0.9, 1), [4, 1, 4])
    np.testing.assert_array_equal(cell_counts(np.array([0.45, 2.8, 0.45]), 0.9, 1), [1, 3, 1])
    np.testing.assert_array_equal(cell_counts(np.array([2.7, 1.8, 0.9]), 0.9, 1), [3, 2, 1])
    np.testing.assert_array_equal(cell_counts(np.array([0.8, 1.2, 0.1]), 0.9, 6), [2, 3, 1])


def test_candidate_points_are_inside():
    """Points on lines lie inside the solid (winding number 1), at even distances; one across a thin wall stands in its middle."""
    for name in ("torus", "room"):
        vertex, face = solids()[name]
        points = np.concatenate([points_on_lines(vertex, face, axis, 0.3, np.array([0.37, 0.71])) for axis in range(3)])
        assert len(points) > 100
        assert all(abs(winding_number(p, vertex, face) - 1.0) < 1e-9 for p in points[::7])
    vertex, face = box_mesh((0, 0, 1), (3, 3, 1.2))
    across = points_on_lines(vertex, face, 2, 0.3, np.array([0.5, 0.4]))
    assert len(across) == 100
    np.testing.assert_allclose(across[:, 2], 1.1, rtol=1e-12)
    along = points_on_lines(vertex, face, 0, 0.3, np.array([0.5, 0.4]))
    np.testing.assert_allclose(along[:, 0], np.tile(0.15 + 0.3 * np.arange(10), len(along) // 10), rtol=1e-9)


def test_slivers_are_relaxed(broken):
    """A long pyramid on a grid has next to nothing in its far corners' cells: they are moved or given away, and no volume is lost."""
    vertex = np.array([[-2.2, 0, -2.2], [-2.2, 0, 2.2], [2.2, 0, 2.2], [2.2, 0, -2.2], [0, 4.0, 0]])
    face = np.array([[0, 2, 1], [0, 3, 2], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    body = polyhedron_from_mesh(vertex, face)
    before, _ = volumes_of(voronoi_cells(body, sites_of_grid(body, 0.9, 1, 0.8, 1, "shatter.site/0"), 1e-9))
    fragments, _ = broken(building_of([("core", "concrete", vertex, face, True, False)]), shot_jittered())
    assert np.count_nonzero(before < 0.2 * before.mean()) > 5
    assert fragments.volume.min() >= 0.2 * fragments.volume.mean()
    assert fragments.volume.sum() == pytest.approx(4.4**2 * 4 / 3, rel=EXACT)


def test_bonds_point_from_a_to_b(broken):
    """b > a or GROUND; the normal runs from centre a to centre b; normal, axis are unit and square to each other; lengths are positive."""
    fragments, bonds = broken(frame_block(), shot_jittered())
    ground = bonds.fragment_b == GROUND
    assert np.all(ground | (bonds.fragment_b > bonds.fragment_a))
    across = np.where(ground[:, None], bonds.centroid, fragments.position[bonds.fragment_b]) - fragments.position[bonds.fragment_a]
    assert np.all(np.einsum("ij,ij->i", across, bonds.normal) > 0.0)
    np.testing.assert_allclose(np.linalg.norm(bonds.normal, axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(bonds.axis, axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(np.einsum("ij,ij->i", bonds.axis, bonds.normal), 0.0, atol=1e-12)
    assert np.all(bonds.second_moment[:, 0] >= bonds.second_moment[:, 1] * (1 - 1e-5)) and np.all(bonds.second_moment > 0)
    inside = ~bonds.joint
    np.testing.assert_allclose(bonds.length[inside], np.einsum("ij,ij->i", across, bonds.normal)[inside], rtol=1e-6)


def area_between(fragments: Fragments, bonds: Bonds, m: int, n: int) -> float:
    """Bonded area between two members (n may be GROUND)."""
    a = fragments.member[bonds.fragment_a]
    b = np.where(bonds.fragment_b == GROUND, GROUND, fragments.member[bonds.fragment_b])
    return float(bonds.area[((a == m) & (b == n)) | ((a == n) & (b == m))].sum())


def test_joints_have_the_area_of_contact(broken):
    """Column under a slab's corner 0.4 x 0.4, half beside it; beam end on the column's flank 0.3 x 0.45; column to ground 0.45 x 0.45."""
    fragments, bonds = broken(building_of([
        box("column", (0, 0, 0), (0.45, 2.82, 0.45), grounded=True),
        box("slab", (0.05, 2.82, 0.05), (4, 3, 4)),
        box("beam", (0.45, 2.37, 0.1), (4, 2.82, 0.4)),
        box("column", (0.1, 3.0, 0.1), (0.45, 5, 0.45)),
        box("wall", (6, 0, 6), (7, 1, 7)),
    ]), shot_jittered())
    for (m, n), want in {
        (0, 1): 0.16, (0, 2): 0.3 * 0.45, (1, 2): 0.3 * 3.55, (1, 3): 0.35**2, (0, GROUND): 0.45**2,
        (0, 3): 0, (4, GROUND): 0, (3, GROUND): 0,
    }.items():
        assert area_between(fragments, bonds, m, n) == pytest.approx(want, rel=EXACT, abs=1e-12), (m, n)
    assert np.all(bonds.joint == (fragments.member[bonds.fragment_a] != np.where(
        bonds.fragment_b == GROUND, -1, fragments.member[bonds.fragment_b])))
    ground = bonds.fragment_b == GROUND
    np.testing.assert_array_equal(bonds.normal[ground], [[0, -1, 0]] * ground.sum())
    np.testing.assert_allclose(bonds.length[ground], fragments.position[bonds.fragment_a[ground], 1], rtol=1e-12)


def test_joints_of_solids(broken):
    """Two walls with windows that abut share 3 x 0.2; a mesh stands on the ground with its lower faces."""
    vertex, face = solids()["window"]
    shift = vertex + [4.0, 0, 0]
    fragments, bonds = broken(building_of([
        ("mesh", "concrete", vertex, face, False, True), ("mesh", "concrete", shift, face, False, False),
    ]), shot_jittered())
    assert area_between(fragments, bonds, 0, 1) == pytest.approx(0.6, rel=1e-7)
    assert area_between(fragments, bonds, 0, GROUND) == pytest.approx(0.8, rel=1e-7)
    assert area_between(fragments, bonds, 1, GROUND) == 0.0


def test_touch_has_a_tolerance(broken):
    """Gaps and overlaps of half the tolerance still bond; a clear gap does not."""
    def joined(gap: float) -> float:
        what = building_of([box("wall", (0, 0, 0), (3, 3, 3)), box("wall", (3 + gap, 0, 0), (6, 3, 3))])
        fragments, bonds = broken(what)
        return area_between(fragments, bonds, 0, 1)

    assert joined(3e-4) == pytest.approx(9.0, rel=1e-6)
    assert joined(-3e-4) == pytest.approx(9.0, rel=1e-3)
    assert joined(0.01) == 0.0


def test_members_that_reach_into_each_other(broken):
    """A beam that ends 0.1 m inside a column, in no common face: one bond, of the beam's section, across the beam."""
    fragments, bonds = broken(building_of([
        box("column", (0, 0, 0), (0.5, 0.9, 0.5)), box("beam", (0.4, 0.3, 0.1), (1.2, 0.7, 0.4)),
    ]))
    assert bonds.count == 1 and bonds.joint[0]
    assert bonds.area[0] == pytest.approx(0.4 * 0.3, rel=1e-9)
    np.testing.assert_allclose(bonds.normal[0], [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(bonds.centroid[0], [0.45, 0.5, 0.25], atol=1e-9)


def test_same_bytes(tmp_path):
    """Two runs write the same files; another seed does not."""
    vertex, face = solids()["torus"]
    what = building_of([box("slab", (0, 0, 0), (4, 0.2, 4)), ("mesh", "concrete", vertex + [2, 0.6, 2], face, False, False)])
    digests = []
    for k, seed in enumerate((1, 1, 2)):
        folder = FrameFolder(tmp_path / str(k))
        shatter(shot_jittered(seed=seed), what, folder, progress_silent)
        digests.append([(folder.path / f"{name}.digest").read_text() for name in ("fragments", "bonds")])
    assert digests[0] == digests[1] and digests[0][0] != digests[2][0] and digests[0][1] != digests[2][1]


def test_members_are_independent(broken):
    """A longer first beam changes cuts and strengths of that beam and its joints only."""
    def run(length: float):
        fragments, bonds = broken(building_of([
            box("beam", (-length, 0, 0), (0, 0.4, 0.3)), box("slab", (0, 0, 0), (4, 0.2, 4)), box("wall", (0, 0.2, 0), (4, 3, 0.2)),
        ]), shot_jittered())
        mine = fragments.member > 0
        a, b = fragments.member[bonds.fragment_a], fragments.member[bonds.fragment_b]
        rows = (a > 0) & (b > 0)
        return fragments.position[mine], {key: getattr(bonds, key)[rows] for key in ("centroid", "tension", "cohesion")}, len(a)

    position, columns, count = run(2.0)
    other_position, other_columns, other_count = run(7.0)
    assert count != other_count
    np.testing.assert_array_equal(position, other_position)
    for key in columns:
        np.testing.assert_array_equal(columns[key], other_columns[key])


def test_strength_rules(broken):
    """Weaker side; harmonic stiffness; joint_scale on frame joints, facade_fixing on panel edges, neither inside; bars in the frame."""
    fragments, bonds = broken(building_of([
        box("column", (0, 0, 0), (0.45, 2.0, 0.45), grounded=True),
        box("infill", (0.45, 0, 0.1), (3.0, 2.0, 0.25), material="brick", grounded=True),
        box("slab", (0, 2.0, 0), (3, 2.2, 3)),
        box("facade", (0, 2.2, 0), (3, 3, 0.1)),
    ]), EVEN.model_copy(update={"fracture": Fracture(jitter=0.0, piece=0.9, strength_scale=0.5, joint_scale=0.8, facade_fixing=0.3)}))
    concrete, brick = EVEN.materials.concrete, EVEN.materials.brick
    member = np.stack([fragments.member[bonds.fragment_a], np.where(bonds.fragment_b == GROUND, -1, fragments.member[bonds.fragment_b])], 1)
    cases = {
        (0, 0): (concrete, 0.5, 0.015), (1, 1): (brick, 0.5, 0.0), (0, 2): (concrete, 0.4, 0.015),
        (0, 1): (brick, 0.15, 0.0), (1, 2): (brick, 0.15, 0.0), (0, -1): (concrete, 0.4, 0.015), (1, -1): (brick, 0.15, 0.0),
        (3, 3): (concrete, 0.5, 0.015), (2, 3): (concrete, 0.15, 0.0),
    }
    for (m, n), (weak, factor, steel) in cases.items():
        rows = (member == [m, n]).all(axis=1)
        assert rows.any(), (m, n)
        for key in ("tension", "compression", "cohesion"):
            np.testing.assert_allclose(getattr(bonds, key)[rows], factor * getattr(weak, key), rtol=1e-12, err_msg=f"{m} {n} {key}")
        np.testing.assert_allclose(bonds.steel[rows], steel)
        np.testing.assert_allclose(bonds.friction[rows], np.tan(np.radians(weak.friction_angle)))
        np.testing.assert_allclose(bonds.fracture_energy[rows], weak.fracture_energy)
    mixed = (member == [0, 1]).all(axis=1)
    np.testing.assert_allclose(bonds.young[mixed], 2 / (1 / concrete.young + 1 / brick.young), rtol=1e-12)
    shear = [m.young / (2 + 2 * m.poisson) for m in (concrete, brick)]
    np.testing.assert_allclose(bonds.shear[mixed], 2 / (1 / shear[0] + 1 / shear[1]), rtol=1e-12)


def test_weibull_scatter(broken):
    """Factors have mean 1 and deviation sqrt(G(1 + 2/m) / G(1 + 1/m)^2 - 1), within 4 standard errors; three strengths scatter apart."""
    n, m = 20000, 10.0
    name = np.arange(n, dtype=np.uint64)
    factor = [weibull(3, np.full(n, m), name, lane) for lane in range(3)]
    deviation = np.sqrt(gamma(1 + 2 / m) / gamma(1 + 1 / m) ** 2 - 1)
    for f in factor:
        assert f.mean() == pytest.approx(1.0, abs=4 * deviation / np.sqrt(n))
        assert f.std() == pytest.approx(deviation, rel=0.03)
    assert abs(np.corrcoef(factor)[np.triu_indices(3, 1)]).max() < 4 / np.sqrt(n)
    np.testing.assert_array_equal(weibull(3, np.zeros(5), name[:5], 0), 1.0)
    _, bonds = broken(frame_block(), shot_jittered())
    values = np.stack([bonds.tension / 3e6, bonds.compression / 30e6, bonds.cohesion / 4.7e6])
    assert len(np.unique(values)) == values.size
    assert values.mean() == pytest.approx(1.0, abs=4 * deviation / np.sqrt(values.size))


def test_cavity_stays_with_its_piece(broken):
    """A closed void in a single piece is part of it: V = 1 - 0.001, and the surface counts its walls."""
    fragments, _ = broken(solid("void"), shot_jittered(piece=20.0))
    assert fragments.count == 1
    assert fragments.volume[0] == pytest.approx(0.999, rel=EXACT)
    assert face_area(fragments.vertex, fragments.face).sum() == pytest.approx(6.06, rel=1e-6)


def test_separate_parts_are_separate_pieces(broken):
    """Two plates in one mesh, in one Voronoi cell, are two pieces without a bond."""
    vertex, face = mesh_of(cube((1, 1, 0.2)) + cube((1, 1, 0.2), (0, 0, 0.3)))
    fragments, bonds = broken(building_of([("mesh", "concrete", vertex, face, False, False)]), shot_jittered(piece=20.0))
    assert fragments.count == 2 and bonds.count == 0
    np.testing.assert_allclose(fragments.volume, 0.2, rtol=EXACT)


def test_splinters_are_glued():
    """A 1 cm slice in a widening bar joins the side it shares more face with; one contact is left, along +x, of the section at x = 1."""
    bar = polyhedron_from_mesh(np.array([[x, y * (1 + 0.1 * x), z] for x in (0.0, 2) for y in (0, 1) for z in (0, 1)]), BOX_FACES)
    pieces, across = [], {(0, 1.0): 1, (0, 1.01): 2, (1, 1.0): 0, (2, 1.01): 0}  # sites: 0 the slice, 1 left of it, 2 right
    for own, (lower, upper) in enumerate([(1.0, 1.01), (-1.0, 1.0), (1.01, 3.0)]):
        left = cut(bar, np.array([1.0, 0, 0]), upper, across.get((own, upper), -1), 1e-9)
        cell = cut(left, np.array([-1.0, 0, 0]), -lower, across.get((own, lower), -1), 1e-9) if left else None
        assert cell is not None
        face, owner = triangles(cell)
        loops = tuple(tuple(t) for t in face.tolist())
        pieces.append(Piece(0, cell.vertex, loops, (own,) * len(loops), tuple(cell.tag[f] for f in owner), (cell.vertex,)))
    together = glued(pieces)
    assert [sorted(set(piece.own)) for piece in together] == [[1], [0, 2]] and len(together[1].hull) == 2
    contact, = contacts_inside(together, 0, convex=False)
    assert (contact.a, contact.b) == (0, 1)
    np.testing.assert_allclose(contact.normal, [1, 0, 0], atol=1e-12)
    assert sections_of([contact.polygon], contact.normal[None]).area[0] == pytest.approx(1.1, rel=1e-12)


def test_bad_input_is_named(broken):
    """An open mesh and an unknown material are errors that name themselves."""
    vertex, face = solids()["L"]
    with pytest.raises(ShotError, match="member 0.*not closed"):
        broken(building_of([("mesh", "concrete", vertex, face[1:], False, False)]))
    with pytest.raises(ShotError, match="not closed and outward"):
        broken(building_of([("mesh", "concrete", vertex, face[:, ::-1], False, False)]))
    with pytest.raises(ShotError, match="check building.unit"):
        broken(building_of([("mesh", "concrete", 1e3 * vertex, face, False, False)]))
    block, faces = box_mesh((0, 0, 0), (1, 1, 1))
    with pytest.raises(ShotError, match="member 0.*not closed"):
        broken(building_of([("slab", "concrete", block, faces[1:], True, False)]))
    with pytest.raises(ShotError, match="materials.marble is not"):
        broken(building_of([("slab", "marble", *box_mesh((0, 0, 0), (1, 1, 1)), True, False)], materials=("marble",)))


def test_hulls_of_thickened_sheets_have_volume(tmp_path):
    """Holes left open make the house's walls sheets with thickness; the covers of their pieces hold no hull that is flat."""
    from assets.building import build
    from shot.load import shot_load

    root = Path(__file__).parent
    loaded = shot_load(root / "shots" / "tiny_mesh.toml", ["building.hole_limit=0"])
    building = build(loaded.shot, FrameFolder(tmp_path / "build"), loaded.base, progress_silent)
    fragments, _ = shatter(loaded.shot, building, FrameFolder(tmp_path / "shatter"), progress_silent)
    for lower, upper in pairwise(fragments.hull_vertex_start):
        assert ConvexHull(fragments.hull_vertex[lower:upper]).volume > 0.0


def test_results_reload_and_progress(tmp_path):
    """What is saved is what is returned; every member is reported once."""
    folder, seen = FrameFolder(tmp_path), []
    fragments, bonds = shatter(shot_jittered(), frame_block(1), folder, seen.append)
    for result in (fragments, bonds):
        again = type(result).load(folder)
        for key in result.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(again, key), getattr(result, key))
    assert seen == list(range(len(frame_block(1).member_kind)))


def test_cut_through_vertices():
    """x <= z through four corners of a cube: half its volume, five faces, closed; a plane along a face leaves all or nothing."""
    block = polyhedron_box(np.zeros(3), np.ones(3))
    normal = np.array([1.0, 0, -1.0]) / np.sqrt(2)
    half = cut(block, normal, 0.0, 7, 1e-9)
    assert half is not None and len(half.vertex) == 6 and sorted(half.tag) == [-1, -1, -1, -1, 7]
    assert volumes_of([half])[0][0] == pytest.approx(0.5, rel=1e-15)
    edges = {(loop[k - 1], loop[k]) for loop in half.loop for k in range(len(loop))}
    assert all((b, a) in edges for a, b in edges)
    grazing = cut(block, normal, 1e-12, 7, 1e-9)  # a hair beside the corners is through them
    assert grazing is not None and len(grazing.vertex) == 6
    assert cut(block, np.array([1.0, 0, 0]), 1.0, 7, 1e-9) is block
    assert cut(block, np.array([1.0, 0, 0]), 0.0, 7, 1e-9) is None


def test_coplanar_triangles_join():
    """A box of 12 triangles is a polyhedron of six squares, also turned and far away."""
    vertex, face = box_mesh((0, 0, 0), (3, 1, 2))
    body = polyhedron_from_mesh(vertex @ TURN.T + 100.0, face)
    assert sorted(len(loop) for loop in body.loop) == [4] * 6
    assert len(triangles(body)[0]) == 12
