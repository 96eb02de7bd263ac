"""Imported meshes: units and axes, repairs that are counted, volumes that are right, and errors that say what is wrong."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import trimesh
from manifold3d import Manifold
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from assets.building import mesh_building
from assets.meshes import make
from assets.solid import arrays, manifold_from
from shot.errors import ShotError
from shot.params import Building

MESHES = Path(make.__file__).parent
BUNDLED = ("house.glb", "school.obj", "tower.stl", "wall.obj")
POINTS = b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n0 0 0\n"


def imported(path: Path, **params):
    """Building of a mesh file."""
    return mesh_building(Building(kind="mesh", file=path.name, **params), path.parent)


def box(size=(2.0, 3.0, 4.0), at=(0.0, 0.0, 0.0)) -> trimesh.Trimesh:
    """A box with its lower corner at `at`."""
    mesh = trimesh.creation.box(size)
    mesh.apply_translation(np.array(size) / 2 + at)
    return mesh


def written(folder: Path, name: str, *meshes: trimesh.Trimesh, **nodes: trimesh.Trimesh) -> Path:
    """A file of one mesh, or a scene of named nodes."""
    scene = trimesh.Scene()
    for number, mesh in enumerate(meshes):
        scene.add_geometry(mesh, node_name=f"part{number}", geom_name=f"part{number}")
    for node, mesh in nodes.items():
        scene.add_geometry(mesh, node_name=node, geom_name=node)
    (scene.to_mesh() if Path(name).suffix in (".stl", ".ply") else scene).export(folder / name)
    return folder / name


def member_volume(building) -> np.ndarray:
    """Volume of each member; asserts that each is closed and outward."""
    volume = []
    for m in range(len(building.member_kind)):
        vertex = building.vertex[building.vertex_start[m] : building.vertex_start[m + 1]]
        face = building.face[building.face_start[m] : building.face_start[m + 1]]
        mesh = trimesh.Trimesh(vertex, face, process=False)
        assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
        volume.append(mesh.volume)
    return np.array(volume)


@pytest.mark.parametrize("name", ["box.glb", "box.obj", "box.stl", "box.ply"])
@pytest.mark.parametrize(("unit", "scale"), [("m", 1.0), ("cm", 0.01), ("mm", 0.001), ("in", 0.0254), ("ft", 0.3048)])
def test_units(tmp_path, name, unit, scale):
    """A box of 2 x 3 x 4 units has 24 scale^3 m3 in every format, stands on y = 0 and is centred in plan."""
    building = imported(written(tmp_path, name, box(at=(100, 50, 7))), unit=unit)
    assert member_volume(building).sum() == pytest.approx(24 * scale**3, rel=1e-4)
    assert building.vertex.min(axis=0) == pytest.approx(scale * np.array([-1, 0, -2]), abs=1e-4 * scale * 100)
    assert building.member_convex.all() and building.member_grounded.all()


@pytest.mark.parametrize(("up", "size"), [("y", (2, 3, 4)), ("z", (2, 4, 3)), ("x", (3, 2, 4))])
def test_up_axis(tmp_path, up, size):
    """The named axis ends up as y by a turn, not a mirror: volume stays positive and a corner mark stays right-handed."""
    mark = box((0.5, 0.5, 0.5), at=(1.5, 2.5, 4.0))
    building = imported(written(tmp_path, "two.obj", body=box(), mark=mark), up=up)
    lengths = np.ptp(building.vertex[building.vertex_start[0] : building.vertex_start[1]], axis=0)
    assert lengths == pytest.approx({"y": (2, 3, 4), "z": (2, 4, 3), "x": (3, 2, 4)}[up])
    assert lengths == pytest.approx(size)
    assert member_volume(building).sum() == pytest.approx(24.125)


def test_scene_transforms_are_applied(tmp_path):
    """A node turned, mirrored and stretched by its transform keeps a positive volume of |det| times its own."""
    scene = trimesh.Scene()
    place = trimesh.transformations.translation_matrix([10, 0, 0]) @ np.diag([-2.0, 1.0, 3.0, 1.0])
    scene.add_geometry(box(), node_name="left", geom_name="g")
    scene.add_geometry(box(), node_name="right", geom_name="h", transform=place)
    scene.export(tmp_path / "s.glb")
    building = imported(tmp_path / "s.glb")
    assert member_volume(building) == pytest.approx([24.0, 144.0], rel=1e-5)
    assert building.element_name == ("left", "right")
    assert building.report["inverted_shells"] == 0  # the mirror turned the faces over, not the modeller


def test_holes_winding_and_inverted_shells_are_repaired(tmp_path):
    """A sphere without five faces and with every fourth face flipped, and one inside out, come back within 1 % of their volume."""
    ball = trimesh.creation.icosphere(3)
    holed, inside_out = ball.copy(), ball.copy()
    faces = np.delete(ball.faces, [0, 1, 40, 41, 300], axis=0)
    faces[::4] = faces[::4, ::-1]
    holed.faces = faces
    inside_out.invert()
    inside_out.apply_translation([4, 0, 0])
    report = imported(written(tmp_path, "a.glb", holed=holed, inside_out=inside_out)).report
    assert report["volume"] == pytest.approx(2 * ball.volume, rel=0.01)
    assert report["holes_closed"] >= 1 and report["inverted_shells"] >= 1 and report["rewound_faces"] > 200


def test_doubled_and_collapsed_faces_and_loose_corners(tmp_path):
    """Unwelded corners, doubled faces in either winding and collapsed faces change nothing but the report."""
    soup = box()
    triangles = soup.vertices[soup.faces]
    triangles = np.concatenate([triangles, triangles[:2], triangles[3:4, ::-1], triangles[4:5][:, [0, 1, 1]]])
    lines = [f"v {p[0]} {p[1]} {p[2]}" for p in triangles.reshape(-1, 3)]
    lines += [f"f {3 * i + 1} {3 * i + 2} {3 * i + 3}" for i in range(len(triangles))]
    (tmp_path / "soup.obj").write_text("\n".join(lines))
    building = imported(tmp_path / "soup.obj")
    assert member_volume(building) == pytest.approx([24.0])
    assert building.report["duplicate_faces"] == 3 and building.report["degenerate_faces"] == 1
    assert building.report["welded_vertices"] == 3 * 16 - 8


def test_overlapping_shells_count_once(tmp_path):
    """Two boxes that share 2 m3 become disjoint members of the union's volume, each under its own name, touching face to face."""
    building = imported(written(tmp_path, "o.glb", big=box((4, 3, 4)), small=box((2, 1, 2), at=(3, 0, 1))))
    assert building.report["volume"] == pytest.approx(48 + 4 - 2)
    assert building.report["overlap_volume"] == pytest.approx(2.0)
    assert member_volume(building) == pytest.approx([48.0, 2.0])
    assert building.element_name == ("big", "small")


def test_a_cavity_stays_hollow_but_a_swallowed_body_goes(tmp_path):
    """An inside-out shell within a shell of its node is a room; an outward one is part of the wall already there."""
    room = box((2, 2, 2), at=(1, 0.5, 1))
    hollow = room.copy()
    hollow.invert()
    shell = box((4, 3, 4))
    building = imported(written(tmp_path, "hollow.stl", shell, hollow))
    assert building.report["cavities"] == 1
    assert building.report["volume"] == pytest.approx(48 - 8)
    assert not building.member_convex.any()
    assert imported(written(tmp_path, "filled.stl", shell, room)).report["volume"] == pytest.approx(48)


def test_sheets_get_a_thickness(tmp_path):
    """A lone quad becomes area x thickness to both sides; four walls around a room keep their outer size: V = t (perimeter - 4t) h."""
    quad = trimesh.Trimesh([[0, 0, 0], [4, 0, 0], [4, 3, 0], [0, 3, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    building = imported(written(tmp_path, "quad.glb", quad), shell_thickness=0.2)
    assert building.report["volume"] == pytest.approx(4 * 3 * 0.2)
    assert np.ptp(building.vertex, axis=0) == pytest.approx([4, 3, 0.2])
    room = box((6, 3, 5))
    room.update_faces(np.abs(room.face_normals[:, 1]) < 0.5)  # no floor, no ceiling
    building = imported(written(tmp_path, "room.glb", room), shell_thickness=0.2)
    assert building.report["thickened_shells"] == 1
    assert building.report["volume"] == pytest.approx(0.2 * (2 * (6 + 5) - 4 * 0.2) * 3)
    assert np.ptp(building.vertex, axis=0) == pytest.approx([6, 3, 5])


def test_a_box_cut_over_two_nodes_is_sewn(tmp_path):
    """Faces of one body exported as two nodes close together: 24 m3, not two sheets."""
    lid, rest = box(), box()
    top = lid.face_normals[:, 1] > 0.5
    lid.update_faces(top)
    rest.update_faces(~top)
    report = imported(written(tmp_path, "sewn.glb", lid=lid, rest=rest)).report
    assert report["sewn_shells"] == 2 and report["thickened_shells"] == 0
    assert report["volume"] == pytest.approx(24.0)


def test_edges_shared_by_more_than_two_faces(tmp_path):
    """Two boxes along one welded edge, a partition inside a box, and a fin on a box: each solid is found, the fin becomes a sheet."""
    report = imported(written(tmp_path, "edge.stl", box((1, 1, 1)), box((1, 1, 1), at=(1, 0, 1)))).report
    assert report["nonmanifold_edges"] == 1 and report["volume"] == pytest.approx(2.0)
    divided = manifold_from(*map(np.asarray, (box().vertices, box().faces)))
    left, right = (arrays(half) for half in divided.split_by_plane([1.0, 0, 0], 0.8))
    halves = [trimesh.Trimesh(*half, process=False) for half in (left, right)]
    halves[1].update_faces(np.abs(halves[1].vertices[halves[1].faces][:, :, 0] - 0.8).max(axis=1) > 1e-9)  # one partition, not two
    assert imported(written(tmp_path, "partition.stl", *halves), shell_thickness=0.05).report["volume"] == pytest.approx(24.0)
    fin = trimesh.Trimesh([[0, 3, 0], [0, 3, 4], [0, 4, 4], [0, 4, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    report = imported(written(tmp_path, "fin.stl", box(), fin), shell_thickness=0.1).report
    assert report["thickened_shells"] == 1 and report["volume"] == pytest.approx(24 + 4 * 0.1)


def test_a_shell_that_crosses_itself_counts_once(tmp_path):
    """A tube closed over itself encloses its crossing twice; repaired, it fills where the winding number is not zero (sampled)."""
    vertex, face = make.rib(radius=2.0, width=1.0, steps=8)
    mesh = trimesh.Trimesh(vertex, face, process=False)
    building = imported(written(tmp_path, "rib.stl", mesh))
    assert building.report["self_crossing_shells"] == 1
    low, high = vertex.min(axis=0), vertex.max(axis=0)
    cell = np.stack(np.meshgrid(*[np.arange(18)] * 3), axis=-1).reshape(-1, 3)
    point = low + (high - low) * (cell + np.random.default_rng(1).uniform(size=cell.shape)) / 18
    corner = vertex[face][None] - point[:, None, None]
    winding = np.concatenate([solid_angle(corner_of) for corner_of in np.array_split(corner, 40)]) / (4 * np.pi)
    sampled = (np.abs(winding) > 0.5).mean() * np.prod(high - low)
    twice = (np.abs(winding) > 1.5).mean() * np.prod(high - low)
    assert twice > 0.04 * sampled  # otherwise the test shows nothing
    assert building.report["volume"] == pytest.approx(sampled, rel=0.03)  # 1 / sqrt(cells on the surface), about
    assert abs(mesh.volume) > 1.04 * building.report["volume"]


def solid_angle(corner: np.ndarray) -> np.ndarray:
    """Sum over triangles (P, T, 3, 3) of the angle they subtend (Van Oosterom and Strackee 1983)."""
    a, b, c = np.moveaxis(corner, 2, 0)
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    top = np.einsum("ptk,ptk->pt", a, np.cross(b, c))
    ab, bc, ca = (np.einsum("ptk,ptk->pt", u, v) for u, v in ((a, b), (b, c), (c, a)))
    return 2 * np.arctan2(top, la * lb * lc + ab * lc + bc * la + ca * lb).sum(axis=1)


def disjoint(building) -> None:
    """No two members share volume."""
    solids = []
    for m in range(len(building.member_kind)):
        vertex = building.vertex[building.vertex_start[m] : building.vertex_start[m + 1]]
        solids.append(manifold_from(vertex, building.face[building.face_start[m] : building.face_start[m + 1]]))
    for i, a in enumerate(solids):
        for b in solids[:i]:
            assert (a ^ b).volume() < 1e-6


@pytest.mark.parametrize(
    ("name", "params", "solid", "found"),
    [
        ("house.glb", {"unit": "cm", "up": "z"}, make.house_solid, ("holes_closed", "inverted_shells", "rewound_faces")),
        ("school.obj", {}, make.school_solid, ("degenerate_faces", "duplicate_faces", "thickened_shells")),
        ("tower.stl", {"up": "z"}, None, ("nonmanifold_edges", "self_crossing_shells", "cavities", "overlapping_shells")),
    ],
)
def test_hard_meshes(name, params, solid, found):
    """The bundled models: volume within 1 % of their exact solids, members disjoint, faults counted, footing on the ground."""
    building = imported(MESHES / name, **params)
    reference = solid() if solid else tower_solid()
    assert building.report["volume"] == pytest.approx(reference.volume(), rel=0.01)
    assert member_volume(building).sum() == pytest.approx(building.report["volume"])
    disjoint(building)
    for fault in found:
        assert building.report[fault] > 0, fault
    assert building.vertex[:, 1].min() == pytest.approx(0.0, abs=1e-9)
    assert building.member_grounded.any() and not building.member_grounded.all()
    assert building.report["warnings"] == []


def tower_solid() -> Manifold:
    """Union of the tower's shells; its rib counted as the space it covers, halved by planes like the import (tested above on its own)."""
    vertex, face = make.rib()
    pieces = []
    for half in manifold_from(vertex, face).split_by_plane([1.0, 0.0, 1.0], 0.0):
        for quarter in half.split_by_plane([1.0, 0.0, -1.0], 0.0):
            pieces += [piece for piece in quarter.decompose() if piece.volume() > 0]
    return make.joined([*make.tower_parts(), *pieces])


def test_bundled_files_are_what_the_script_writes(tmp_path):
    """`python -m assets.meshes.make` repeats the files byte for byte; each stays under 200 kB."""
    for write, name in zip((make.house_write, make.school_write, make.tower_write, make.wall_write), BUNDLED, strict=True):
        write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == (MESHES / name).read_bytes()
        assert (MESHES / name).stat().st_size < 200_000


def test_material_of_the_file_wins(tmp_path):
    """A glTF material named like a material of the shot is used; others fall back to building.material."""
    named, other = box(), box(at=(5, 0, 0))
    for mesh, name in ((named, "Brick"), (other, "Lambert1")):
        mesh.visual = TextureVisuals(material=PBRMaterial(name=name))
    building = imported(written(tmp_path, "m.glb", a=named, b=other), material="plain")
    assert [building.material_name[i] for i in building.member_material] == ["brick", "plain"]


@pytest.mark.parametrize(("unit", "hint"), [("m", "unit"), ("mm", "unit")])
def test_implausible_size_is_questioned(tmp_path, unit, hint):
    """3000 m and 3 m as millimetres: the report asks about the unit instead of failing."""
    size = (2000, 3000, 1000) if unit == "m" else (2, 3, 1)
    report = imported(written(tmp_path, "big.glb", box(size)), unit=unit).report
    assert any(hint in warning for warning in report["warnings"])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.glb", None, "no such mesh file"),
        ("model.fbx", b"x", "not a mesh format"),
        ("model.gbl", b"x", "did you mean .glb"),
        ("garbage.glb", b"garbage", "cannot be read"),
        ("empty.stl", b"", "no triangles"),
        ("points.ply", POINTS, "no triangles"),
        ("needle.obj", b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "nothing solid"),
        ("nan.obj", b"v nan 0 0\nv nan 0 1\nv nan 2 0\nf 1 2 3\n", "finite"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, name, content, says):
    """Files that cannot be used raise ShotError (exit code 3) that names the file and the cause."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ShotError, match=says) as caught:
            imported(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_import_rounds_as_the_libraries_expect(tmp_path):
    """A mesh imported in a thread that flushed denormals: its stages turn them on again, or scipy's KDTree overflows its stack on ties."""
    from pipeline.run import run
    from shot.device import denormals_keep
    from shot.load import shot_load

    loaded = shot_load(Path(__file__).parent / "shots" / "tiny_mesh.toml", ["frames=2"])
    denormals_keep(False)
    try:
        report = run(loaded, None, "shatter", root=tmp_path).results
        assert np.nextafter(0.0, 1.0) * 1.0 > 0
    finally:
        denormals_keep()
    assert "shatter" in report
