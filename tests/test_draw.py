"""Drawing: every guide against float64 geometry, light against closed forms, frames independent of each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from draw_scene import bonds_of, debris_of, dust_of, fragments_of, motion_of, shot_small

from render.camera import camera_pose, pixel_of, ray_of
from render.sky import sky_irradiance, sky_of
from shot import rotation
from shot.errors import MissingResource
from shot.frames import FrameFolder
from shot.params import Camera, Light, Look, Materials, Shot
from shot.results import Fragments, Guides, Motion, progress_silent

SAMPLE = np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])


def boxes(count: int = 40, spread: float = 5.0) -> Fragments:
    """Boxes of three materials hanging over the ground."""
    draw = np.random.default_rng(3)
    centre = np.stack([spread * (draw.random(count) - 0.5), 0.6 + 3 * draw.random(count), spread * (draw.random(count) - 0.5)], 1)
    half = 0.1 + 0.3 * draw.random((count, 3))
    return fragments_of(centre - half, centre + half, np.arange(count) % 3, interior=draw.random((count, 6)) < 0.3)


def tumble(fragments: Fragments, frames: int, speed: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N, F, 3) and rotations (N, F, 4) of pieces that fly and turn."""
    draw = np.random.default_rng(5)
    way = speed * draw.standard_normal((fragments.count, 3))
    axis = draw.standard_normal((fragments.count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    t = np.arange(frames)[:, None, None]
    angle = 0.4 + 0.05 * t + np.zeros((1, fragments.count, 1))
    return fragments.position + t * way, np.concatenate([np.cos(angle / 2), np.sin(angle / 2) * axis], 2)


def triangles(fragments: Fragments, position: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World corners (T, 3, 3) float64 of float32 poses, and fragment of each."""
    owner = np.repeat(np.arange(fragments.count), np.diff(fragments.face_start))
    face = fragments.face + fragments.vertex_start[owner][:, None]
    body = np.repeat(np.arange(fragments.count), np.diff(fragments.vertex_start))
    q = turn.astype(np.float32).astype(float)[body]
    vertex = rotation.rotate(q, fragments.vertex.astype(float)) + position.astype(np.float32).astype(float)[body]
    return vertex[face], owner


def cast(corners: np.ndarray, origin: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moeller-Trumbore: nearest hit parameter (N), triangle (N, -1 none), and the least distance to an edge in barycentrics (N)."""
    a = corners[:, 0]
    e, f = corners[:, 1] - a, corners[:, 2] - a
    best, hit, edge = np.full(len(ray), np.inf), np.full(len(ray), -1), np.full(len(ray), np.inf)
    for i, d in enumerate(ray):
        p = np.cross(d, f)
        det = np.einsum("ij,ij->i", e, p)
        s = origin - a
        q = np.cross(s, e)
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v, t = np.einsum("ij,ij->i", s, p) / det, (q @ d) / det, np.einsum("ij,ij->i", f, q) / det
        u, v, t = (np.where(np.abs(det) > 1e-12, value, -1.0) for value in (u, v, t))
        inner = np.minimum(np.minimum(u, v), 1 - u - v)
        edge[i] = np.min(np.abs(np.where((inner > -0.2) & (t > 0), inner, np.inf)))
        t = np.where((inner >= 0) & (det > 1e-12) & (t > 0), t, np.inf)
        if np.isfinite(t.min()):
            hit[i], best[i] = t.argmin(), t.min()
    return best, hit, edge


@pytest.fixture(scope="module")
def drawn(taichi, tmp_path_factory) -> tuple[Shot, Fragments, Motion, Guides, np.ndarray, np.ndarray]:
    """Tumbling boxes seen by a moving camera, three frames, no debris, no dust."""
    from render.draw import draw

    folder = tmp_path_factory.mktemp("drawn")
    shot = shot_small(camera=Camera(width=160, height=96, position=(3.5, 2.6, 5.5), target=(0, 1.8, 0), move=(1.5, 0.3, 0)))
    fragments = boxes()
    position, turn = tumble(fragments, 3)
    motion = motion_of(folder / "motion", 1001, position, turn, {1002: [(0.03, 0)], 1003: [(0.07, 1)]})
    guides = draw(shot, fragments, bonds_of([(0, 1), (2, 3)]), motion, None, None, None, FrameFolder(folder / "guides"), shot.frame_range,
                  progress_silent)
    return shot, fragments, motion, guides, position, turn


def hits(drawn, frame: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ray casts of all samples of pixels (N, 2): depth (N, 4), id (N, 4), edge (N, 4) and sample positions (N, 4, 2)."""
    shot, fragments, _, _, position, turn = drawn
    pose = camera_pose(shot, frame)
    corners, owner = triangles(fragments, position[frame - shot.first], turn[frame - shot.first])
    place = pixels[:, None] + SAMPLE
    ray = ray_of(pose, place.reshape(-1, 2))
    depth, hit, edge = cast(corners, pose.eye, ray)
    ground = np.where(ray[:, 1] < 0, -pose.eye[1] / np.where(ray[:, 1] < 0, ray[:, 1], -1), np.inf)
    ids = np.where(depth < ground, owner[hit] + 1, np.where(np.isfinite(ground) & (ground < shot.camera.far), fragments.count + 1, 0))
    return np.minimum(depth, ground).reshape(-1, 4), ids.reshape(-1, 4), edge.reshape(-1, 4), place


def some_pixels(shot: Shot, count: int) -> np.ndarray:
    """Pixel corners (N, 2) spread over the picture, kept off the horizon's last rows."""
    draw = np.random.default_rng(11)
    return np.stack([draw.integers(0, shot.camera.width, count), draw.integers(0, shot.camera.height, count)], 1)


def test_ids_match_ray_casting(drawn):
    """Every sample's id is that of the nearest hit of a float64 ray cast, wherever no edge passes within 1e-3 of it."""
    shot, *_ = drawn
    pixels = some_pixels(shot, 500)
    ids = drawn[3].frame(1002)["ids"][pixels[:, 1], pixels[:, 0]]
    _, want, edge, _ = hits(drawn, 1002, pixels)
    clear = edge > 2e-3
    assert clear.sum() > 1500
    assert len(np.unique(want)) > 20
    assert np.array_equal(ids[clear], want[clear])


def test_depth_normal_and_rest_match_ray_casting(drawn):
    """Depth is the nearest sample's within 2e-6, id its own, the normal that of its face, the rest position what its pose maps back."""
    shot, fragments, _, guides, position, turn = drawn
    pixels = some_pixels(shot, 400)
    depth, ids, edge, place = hits(drawn, 1002, pixels)
    arrays = guides.frame(1002)
    nearest = depth.argmin(1)
    row = np.arange(len(pixels))
    solid = (edge.min(1) > 2e-3) & (ids[row, nearest] > 0) & (ids[row, nearest] <= fragments.count)
    got = arrays["depth"][pixels[:, 1], pixels[:, 0]]
    want = depth[row, nearest]
    assert solid.sum() > 60
    assert np.array_equal(arrays["id"][pixels[:, 1], pixels[:, 0]][solid], ids[row, nearest][solid])
    assert np.abs(got[solid] / want[solid] - 1).max() < 2e-6
    near = (ids[row, nearest] == fragments.count + 1) & (want < 60) & (edge.min(1) > 2e-3)
    assert np.abs(got[near] / want[near] - 1).max() < 2e-6
    pose = camera_pose(shot, 1002)
    world = pose.eye + ray_of(pose, place[row, nearest]) * np.minimum(want, 1e4)[:, None]
    body = np.maximum(ids[row, nearest] - 1, 0).clip(max=fragments.count - 1)
    local = rotation.rotate(rotation.conjugate(turn[1][body]), world - position[1][body])
    rest = arrays["rest"][pixels[:, 1], pixels[:, 0]]
    assert np.abs(rest - (local + fragments.position[body]))[solid].max() < 2e-4
    assert np.abs(rest - world)[near].max() < 2e-3
    normal = arrays["normal"][pixels[:, 1], pixels[:, 0]].astype(float)
    axis = rotation.rotate(rotation.conjugate(turn[1][body]), normal)
    assert np.allclose(np.abs(axis[solid]).max(1), 1, atol=2e-3)
    assert np.all(arrays["normal"][pixels[near, 1], pixels[near, 0]] == np.array([0, 1, 0], np.float16))


@pytest.mark.parametrize("name, other", [("motion_backward", 1001), ("motion_forward", 1003)])
def test_motion_matches_reprojection(drawn, name: str, other: int):
    """Both motions are within 1e-2 px of a float64 reprojection through pose and camera of the other frame."""
    shot, fragments, _, guides, position, turn = drawn
    pixels = some_pixels(shot, 400)
    depth, ids, edge, place = hits(drawn, 1002, pixels)
    row, nearest = np.arange(len(pixels)), depth.argmin(1)
    here = place[row, nearest]
    body = ids[row, nearest] - 1
    now, then = camera_pose(shot, 1002), camera_pose(shot, other)
    world = now.eye + ray_of(now, here) * np.minimum(depth[row, nearest], 1e4)[:, None]
    known = body.clip(0, fragments.count - 1)
    local = rotation.rotate(rotation.conjugate(turn[1][known]), world - position[1][known])
    moved = rotation.rotate(turn[other - 1001][known], local) + position[other - 1001][known]
    there, _ = pixel_of(then, np.where((body < fragments.count)[:, None], moved, world))
    want = here - there if name == "motion_backward" else there - here
    kept = (edge.min(1) > 2e-3) & (body >= 0) & (depth.min(1) < 200)
    got = guides.frame(1002)[name][pixels[:, 1], pixels[:, 0]]
    assert kept.sum() > 200
    assert np.abs(want[kept]).max() > 3
    assert np.abs(got - want)[kept].max() < 1e-2


def test_motion_is_clamped_at_the_ends(drawn):
    """Before the first and after the last frame objects stand still: what is left is the camera's move."""
    shot, fragments, _, guides, position, turn = drawn
    arrays = guides.frame(1001)
    on = (arrays["id"] > 0) & (arrays["id"] <= fragments.count)
    y, x = np.nonzero(on & (arrays["ids"] == arrays["id"][..., None]).all(-1))
    now, then = camera_pose(shot, 1001), camera_pose(shot, 1000)
    world = now.eye + ray_of(now, np.stack([x + 0.5, y + 0.5], 1)) * arrays["depth"][y, x][:, None].astype(float)
    want = np.stack([x + 0.5, y + 0.5], 1) - pixel_of(then, world)[0]
    assert np.abs(arrays["motion_backward"][y, x] - want).max() < 0.05  # a quarter pixel of parallax within the pixel


def test_whole_pixel_shift_moves_the_picture(drawn, taichi):
    """Orthographic camera, all pieces moved by (+7, +3) pixels: ids and albedo are the shifted ones exactly, motion is (7, 3)."""
    from dataclasses import replace

    from render.draw import frame_input, scene_open

    shot, fragments, motion, *_ = drawn
    scene = scene_open(shot, fragments, None, rocks=False)
    given, _ = frame_input(shot, scene, fragments, motion, None, None, 1002)
    rows = given.poses
    pose = camera_pose(shot, 1002)
    scale = 0.0625  # [m] a pixel, a power of two, so that the shift is exact
    ortho = np.diag([2 / (scale * pose.width), -2 / (scale * pose.height), -2 / 100, 1.0])
    ortho[2, 3] = -1.0
    turn = np.eye(4)
    turn[:3, :3] = pose.turn
    quantum = 2.0**-20
    shift = (np.round((7 * scale * pose.turn[0] - 3 * scale * pose.turn[1]) / quantum) * quantum).astype(np.float32)
    still = rows.copy()
    still[:, 3:6], still[:, 6:9] = rows[:, :3], rows[:, :3]
    moved = still.copy()
    moved[:-1, 0:3, 3] += shift
    clips = {"clip_now": ortho @ turn, "clip_before": ortho @ turn, "clip_after": ortho @ turn}
    images = []
    for table in (still, moved):
        frame = replace(given, poses=table, uniforms=given.uniforms | clips | {"eye_height": 1e4, "pixel_angle": 0.0})
        scene.renderer.draw_shadow(scene.graph, frame)
        samples = scene.renderer.draw_guides(scene.graph, frame, None)
        solid = samples.id <= fragments.count
        images.append((np.where(solid, samples.id, 0), samples.albedo.copy(), samples.motion.copy()))
    (id_0, albedo_0, _), (id_1, albedo_1, motion_1) = images
    h, w = id_0.shape
    a, b = id_0[: h - 6, : w - 14], id_1[6:, 14:]
    assert (a > 0).sum() > 5000
    assert (a != b).mean() < 2e-4  # float32 rounding of rotated corners at sample centres
    same = (a == b) & (a > 0)
    assert np.abs(motion_1[6:, 14:, :2][same] - [7, 3]).max() < 1e-3
    differing = np.abs(albedo_1[6:, 14:, :3].astype(int) - albedo_0[: h - 6, : w - 14, :3])[same].max(-1)
    assert np.quantile(differing, 0.99) <= 1  # weathering is fixed to the rest position: it moves with the piece


def test_age_follows_the_break_log(drawn):
    """Age is the time since the youngest broken bond of the fragment, 60 where none broke; later breaks do not count."""
    _, fragments, _, guides, *_ = drawn
    first, second = 2 / 24 - 0.03, 2 / 24 - 0.07
    for frame, ages in ((1001, {}), (1002, {1: 1 / 24 - 0.03, 2: 1 / 24 - 0.03}), (1003, {1: first, 2: first, 3: second, 4: second})):
        arrays = guides.frame(frame)
        for identity in range(1, fragments.count + 1):
            seen = arrays["age"][arrays["id"] == identity]
            assert np.allclose(seen.astype(float), ages.get(identity, 60.0), atol=1e-3)


def test_interior_marks_fracture_faces(drawn):
    """Pixels of one fragment and one normal carry the flag of that face."""
    _, fragments, _, guides, _, turn = drawn
    arrays = guides.frame(1002)
    y, x = np.nonzero((arrays["id"] > 0) & (arrays["id"] <= fragments.count) & (arrays["ids"] == arrays["id"][..., None]).all(-1)
                      & np.isin(arrays["interior"], [0, 1]))
    body = arrays["id"][y, x] - 1
    axis = rotation.rotate(rotation.conjugate(turn[1][body]), arrays["normal"][y, x].astype(float))
    side = 2 * np.abs(axis).argmax(1) + (np.take_along_axis(axis, np.abs(axis).argmax(1)[:, None], 1)[:, 0] > 0)
    flag = fragments.face_interior.reshape(-1, 6, 2)[body, side, 0]
    assert flag.any() and not flag.all()
    assert (arrays["interior"][y, x].astype(bool) == flag).mean() > 0.99  # the pixel's other samples may lie on another face


def test_frames_do_not_depend_on_each_other(drawn, tmp_path: Path):
    """A frame drawn alone in a fresh folder is the same file as drawn in a row; a finished folder is left alone."""
    from render.draw import draw

    shot, fragments, motion, guides, *_ = drawn
    told: list[int] = []
    args = (shot, fragments, bonds_of([(0, 1), (2, 3)]), motion, None, None, None)
    alone = draw(*args, FrameFolder(tmp_path), [1003], told.append)
    assert (alone.folder.path / "frame.1003.npz").read_bytes() == (guides.folder.path / "frame.1003.npz").read_bytes()
    draw(*args, FrameFolder(tmp_path), [1003], told.append)
    assert told == [1003]


def flat_shot(**look) -> Shot:
    """A camera over bare ground."""
    return shot_small(look=Look(shadow_size=1024, weathering=0, occlusion=0, haze=1e6, **look), light=Light(azimuth=90, elevation=45),
                      camera=Camera(width=96, height=64, position=(0, 6, 10), target=(0, 0, 0)))


def draw_one(shot: Shot, fragments: Fragments, tmp_path: Path, dust=None, shed=None, debris=None) -> Mapping[str, np.ndarray]:
    """Frame 1001 of a scene at rest."""
    from render.draw import draw

    motion = motion_of(tmp_path / "still", 1001, np.repeat(fragments.position[None], shot.frames, 0))
    guides = draw(shot, fragments, bonds_of([]), motion, shed, debris, dust, FrameFolder(tmp_path / "one"), [1001], progress_silent)
    return guides.frame(1001)


def test_shadow_is_where_the_sun_is_hidden(taichi, tmp_path: Path):
    """A box of 2 x 3 x 2 m under a 45 degree sun shades x' = [-4, 1]; its sunlit sides have no acne."""
    shot = flat_shot()
    box = fragments_of([[-1, 0, -1]], [[1, 3, 1]], np.array([0]))
    arrays = draw_one(shot, box, tmp_path)
    x, _, z = np.moveaxis(arrays["rest"], -1, 0)
    ground = (arrays["id"] == 2) & (np.abs(x) < 8)
    texel = 2 * (0.6 * 3 + 1 + 2) * 2 / 1024
    shade = ground & (x > -4 + 4 * texel) & (x < -1 - 0.3) & (np.abs(z) < 1 - 4 * texel)
    free = ground & ((x < -4 - 0.3) | (x > 1.3) | (np.abs(z) > 1.3))
    assert shade.sum() > 100 and free.sum() > 500
    assert np.all(arrays["sun"][shade] == 0)
    assert np.all(arrays["sun"][free] == 1)
    side = (arrays["id"] == 1) & (arrays["normal"][..., 1] > 0.9)
    assert np.all(arrays["sun"][side & (np.abs(x) < 0.9) & (np.abs(z) < 0.9)] == 1)


@pytest.mark.parametrize("unit", [(0.25, 0.075), (0.6, 0.17), (0.0, 0.0)])
def test_courses_follow_the_brick(taichi, tmp_path: Path, unit):
    """On a wall of brick mortar lies where the courses of `materials.brick.unit` meet, and nowhere where there are none."""
    shot = flat_shot().model_copy(update={
        "look": Look(shadow_size=512, weathering=1), "camera": Camera(width=192, height=128, position=(0, 1.5, 2.0), target=(0, 1.5, 0)),
        "materials": Materials.model_validate({"brick": {"unit": unit}}),
    })
    arrays = draw_one(shot, fragments_of([[-3, 0, -0.3]], [[3, 3, 0]], np.array([1])), tmp_path)
    wall = (arrays["id"] == 1) & (np.abs(arrays["rest"][..., 1] - 1.5) < 0.7)
    height, blue = arrays["rest"][..., 1][wall], arrays["albedo"][..., 2][wall].astype(float)  # mortar is greyer than brick
    for tried in (0.075, 0.17):
        away = np.abs(height - tried * np.round(height / tried))
        if tried == unit[1]:
            assert blue[away < 0.005].mean() > 1.2 * blue[away > 0.4 * tried].mean()
        else:
            assert blue[away < 0.005].mean() < 1.1 * blue[away > 0.4 * tried].mean()


def test_open_ground_has_the_radiance_of_its_light(taichi, tmp_path: Path):
    """solid = albedo (sun sin(elevation) + E_sky): the closed form, within float16 and 1 %."""
    shot = flat_shot()
    speck = fragments_of([[30, 0, 30]], [[30.2, 0.2, 30.2]], np.array([0]))
    arrays = draw_one(shot, speck, tmp_path)
    sky = sky_of(shot.light)
    near = (arrays["id"] == 2) & (arrays["depth"] < 15)
    light = np.asarray(shot.light.sun) * np.sin(np.radians(45)) + sky_irradiance(sky, np.array([0.0, 1, 0]))
    code = arrays["albedo"][near] / 255
    albedo = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    assert np.abs(arrays["solid"][near].astype(float).mean(0) / (albedo.mean(0) * light) - 1).max() < 0.01
    sky_pixels = ~np.isfinite(arrays["depth"])
    assert np.all(arrays["id"][sky_pixels] == 0) and np.all(arrays["alpha"][~sky_pixels] > 0)


def test_closed_room_is_dark_and_light_never_grows(taichi):
    """White furnace: pieces of albedo 1 under uniform radiance 1 never see more than 1; behind closed walls less than a fifth is left."""
    from render.ambient import ShadowMap, ambient_lattice, ambient_light, surface_points
    from render.scene_tables import Poses, body_table, fragment_solid, material_table
    from render.sky import Sky

    shot = shot_small()
    thick, s = 0.3, 4.0
    lower = [[-s, 0, -s], [-s, 6, -s], [-s, 0, -s], [s - thick, 0, -s], [-s, 0, -s], [-s, 0, s - thick]]
    upper = [[s, thick, s], [s, 6 + thick, s], [-s + thick, 6, s], [s, 6, s], [s, 6, -s + thick], [s, 6, s]]
    room = fragments_of(lower, upper, np.zeros(6, int))
    bodies, materials = body_table(shot, room, None), material_table(shot, room.material_name)
    lattice = ambient_lattice(np.array([-8.0, 0, -8]), np.array([8.0, 10, 8]), 56)
    points = surface_points(shot, room, lattice, fragment_solid(room).normal, bodies, materials)
    white = type(points)(points.place, points.normal, points.body, points.area, np.ones_like(points.albedo))
    one, none = np.ones(3), np.zeros(3)
    fit = np.zeros((10, 3))
    fit[0] = 1
    sky = Sky(np.array([0.0, 1, 0]), none, one, one, none, one, fit, 1.0)
    poses = Poses(np.tile(np.eye(3), (7, 1, 1)), np.concatenate([room.position, np.zeros((1, 3))]), np.zeros(0, bool))
    noon = ShadowMap(np.ones((4, 4), np.float32), np.eye(4))
    ambient = ambient_light(lattice, white, poses, noon, None, sky)
    assert ambient.cube.max() < 1.0001
    room_light = ambient_light(lattice, points, poses, noon, None, sky)
    assert np.allclose(ambient.open, 1, atol=1e-5)
    centre = np.floor(([0, 3, 0] - lattice.lower) / lattice.cell).astype(int)
    assert room_light.cube[tuple(centre)].max() < 0.2
    assert ambient.cube[0, -1, 0, 2].min() > 0.98


def slab_dust(tmp_path: Path, shot: Shot, extinction: float, lower, shape, cell: float = 0.5):
    """Uniform dust of a given extinction [1/m]."""
    mass = np.full(shape, extinction / shot.look.dust_extinction * cell**3, np.float32)
    return dust_of(tmp_path / "dust", shot, lower, cell, mass)


def test_dust_alpha_is_beer_lambert(taichi, tmp_path: Path):
    """Uniform dust: alpha = 1 - exp(-k s) with s the path to the surface, on both sides of a silhouette; motion and depth lie within."""
    shot = flat_shot()
    wall = fragments_of([[-1, 0, 2]], [[1, 2.5, 2.4]], np.array([0]))
    k, lower = 0.12, np.array([-12.0, 0, -12])
    dust = slab_dust(tmp_path, shot, k, lower, (48, 16, 40))
    arrays = draw_one(shot, wall, tmp_path, dust)
    pose = camera_pose(shot, 1001)
    y, x = np.nonzero((arrays["depth"] < 22) & (arrays["ids"] == arrays["id"][..., None]).all(-1))
    ray = ray_of(pose, np.stack([x + 0.5, y + 0.5], 1))
    with np.errstate(divide="ignore"):
        a, b = (lower - pose.eye) / ray, (lower + np.array([24.0, 8, 20]) - pose.eye) / ray
    enter, leave = np.minimum(a, b).max(1), np.maximum(a, b).min(1)
    path = np.maximum(np.minimum(leave, arrays["depth"][y, x]) - np.maximum(enter, 0), 0) * np.linalg.norm(ray, axis=1)
    want = 1 - np.exp(-k * path)
    got = arrays["dust"][y, x, 3].astype(float)
    deep = path > 1
    assert deep.sum() > 1000 and (arrays["id"][y, x][deep] == 1).sum() > 100
    assert np.abs(got - want)[deep].mean() < 0.01
    assert np.quantile(np.abs(got - want)[deep], 0.98) < 0.04
    mean = arrays["dust_depth"][y, x][deep]
    assert np.all((mean > enter[deep] - 0.5) & (mean < np.minimum(leave, arrays["depth"][y, x])[deep] + 0.5))
    assert np.all(arrays["dust"][..., :3] >= 0) and np.all(arrays["dust"][..., 3] <= 1)


def test_dust_shades_the_ground(taichi, tmp_path: Path):
    """Under a wide layer of thickness h the sun arrives with exp(-k h / sin(elevation))."""
    shot = flat_shot()
    speck = fragments_of([[4, 0, -4]], [[4.2, 0.2, -3.8]], np.array([0]))
    k = 0.2
    dust = slab_dust(tmp_path, shot, k, (-30, 1.0, -30), (120, 4, 120))
    arrays = draw_one(shot, speck, tmp_path, dust)
    under = (arrays["id"] == 2) & (arrays["depth"] < 15)
    want = np.exp(-k * 2 / np.sin(np.radians(45)))
    assert np.abs(arrays["sun"][under].astype(float) - want).max() < 0.02


def test_thin_dust_in_the_sun_scatters_its_share(taichi, tmp_path: Path):
    """A thin layer sends at least albedo tau (pi sun HG + mean sky), single scattering, and less than four times that with the octaves."""
    shot = flat_shot(dust_phase=0.0)
    speck = fragments_of([[40, 0, -40]], [[40.2, 0.2, -39.8]], np.array([0]))
    arrays = draw_one(shot, speck, tmp_path, slab_dust(tmp_path, shot, 1e-3, (-6, 0.5, -6), (24, 8, 24)))
    on = (arrays["dust"][..., 3] > 4e-3) & (arrays["id"] == 2)
    single = np.asarray(shot.look.dust_albedo) * (np.asarray(shot.light.sun) / 4 + np.asarray(shot.light.sky) / 2)
    got = (arrays["dust"][on, :3] / arrays["dust"][on, 3:]).astype(float).mean(0)
    assert np.all(got > 0.95 * single) and np.all(got < 4 * single)
    assert got[0] > got[2] * 0.9  # warm, not blue


def test_debris_is_drawn_when_born(taichi, tmp_path: Path):
    """Pieces appear under ids F + 2 + p from their birth on, near their place, made of inner material, with motion from before birth."""
    from render.draw import draw

    shot = shot_small()
    box = fragments_of([[30, 0, 30]], [[31, 1, 31]], np.array([0]))
    shed, debris = debris_of(tmp_path / "debris", shot, 300)
    seeds = shed.until(shot.first, 1003)
    motion = motion_of(tmp_path / "still", 1001, np.repeat(box.position[None], 3, 0))
    guides = draw(shot, box, bonds_of([]), motion, shed, debris, None, FrameFolder(tmp_path / "g"), shot.frame_range, progress_silent)
    for frame in shot.frame_range:
        arrays = guides.frame(frame)
        pieces = np.unique(arrays["ids"])
        pieces = pieces[pieces >= box.count + 2] - box.count - 2
        assert len(pieces) > 50 and np.all(pieces // 100 <= frame - 1001)
        where, depth = pixel_of(camera_pose(shot, frame), debris.frame(frame)["position"][pieces])
        for piece, at, z in zip(pieces, where, depth, strict=True):
            y, x = np.nonzero((arrays["ids"] == box.count + 2 + piece).any(-1))
            reach = 2.2 * seeds.radius[piece] / z * shot.camera.height / (2 * np.tan(np.radians(shot.camera.fov) / 2)) + 1.5
            assert np.hypot(x + 0.5 - at[0], y + 0.5 - at[1]).max() < reach
    arrays = guides.frame(1002)
    new = (arrays["id"] >= box.count + 2) & ((arrays["id"] - box.count - 2) // 100 == 1)
    assert np.all(arrays["interior"][new] > 0)
    assert np.abs(arrays["motion_backward"][new]).max() < 3 and np.abs(arrays["motion_backward"][new]).max() > 0.05


def test_static_part(drawn):
    """Version, cameras of all frames of the shot, projection, sun and exposure."""
    shot, *_, = drawn
    static = drawn[3].folder.get("static")
    assert int(static["version"]) == Guides.VERSION
    assert static["view"].shape == (3, 4, 4)
    assert np.allclose(static["view"][2], camera_pose(shot, 1003).view)
    assert np.isclose(np.linalg.norm(static["sun"]), 1)


def test_other_sizes_compile_nothing(drawn, taichi, tmp_path: Path):
    """Another resolution, another grid, other counts: the kernels of the first picture do."""
    from render import ambient, dust_march, light_grid, post, resolve

    kernels = [value for module in (ambient, dust_march, light_grid, post, resolve) for value in vars(module).values()
               if hasattr(value, "_primal")]
    shot = flat_shot()
    speck = fragments_of([[0, 0, 0]], [[1, 1, 1]], np.array([0]))
    draw_one(shot, speck, tmp_path / "a", slab_dust(tmp_path / "a", shot, 0.1, (-6, 0, -6), (24, 8, 24)))
    before = [len(k._primal.compiled_kernels) for k in kernels]
    other = shot_small(camera=Camera(width=70, height=50))
    draw_one(other, boxes(5), tmp_path / "b", slab_dust(tmp_path / "b", other, 0.1, (-4, 0, -6), (13, 9, 20), 0.4))
    assert len(kernels) > 8 and sum(before) > 8
    assert [len(k._primal.compiled_kernels) for k in kernels] == before


def test_missing_egl_names_the_package(monkeypatch):
    """Without libEGL the error says which packages bring it; another platform is refused."""
    from render import compat

    monkeypatch.setattr(compat.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(MissingResource, match="apt-get install -y libegl1"):
        compat.pyrender_open()
    monkeypatch.setenv("PYOPENGL_PLATFORM", "osmesa")
    with pytest.raises(MissingResource, match="egl"):
        compat.pyrender_open()


def test_reference_without_mitsuba_names_the_package(tmp_path: Path, monkeypatch):
    """An interpreter that is not there or lacks a module is a MissingResource with the install line."""
    from render.reference import interpreter_find, interpreter_run

    with pytest.raises(MissingResource, match="pip install mitsuba"):
        interpreter_run(tmp_path / "python", [])
    script = tmp_path / "script.py"
    script.write_text("import mitsuba_that_is_not_there\n")
    import sys
    with pytest.raises(MissingResource, match="has no mitsuba_that_is_not_there: .* -m pip install mitsuba_that_is_not_there"):
        interpreter_run(sys.executable, [str(script)])
    monkeypatch.delenv("DEMOLISH_MITSUBA_PYTHON", raising=False)
    with pytest.raises(MissingResource, match="DEMOLISH_MITSUBA_PYTHON"):
        interpreter_find()


@pytest.mark.slow
def test_reference_agrees_in_the_open(taichi, tmp_path: Path):
    """Path tracing and raster give the same radiance where nothing shadows and nothing bounces: ground and sky within 2 %."""
    from render.reference import interpreter_find, reference

    if not os.environ.get("DEMOLISH_MITSUBA_PYTHON"):
        pytest.skip("DEMOLISH_MITSUBA_PYTHON is not set")
    shot = flat_shot()
    box = fragments_of([[-0.5, 0, -0.5]], [[0.5, 1, 0.5]], np.array([0]))
    arrays = draw_one(shot, box, tmp_path)
    motion = motion_of(tmp_path / "still", 1001, np.repeat(box.position[None], shot.frames, 0))
    image = reference(shot, box, motion, 1001, 64, interpreter_find(), tmp_path / "reference.npy")
    x, _, z = np.moveaxis(arrays["rest"], -1, 0)
    ground = (arrays["id"] == 2) & (np.hypot(x, z) > 4) & (arrays["depth"] < 20)
    solid = arrays["solid"].astype(float)
    assert np.abs(solid[ground].mean(0) / image[ground].mean(0) - 1).max() < 0.02
    top = (arrays["id"] == 1) & (arrays["normal"][..., 1] > 0.9) & (arrays["ids"] == 1).all(-1)
    assert np.abs(np.median(solid[top], 0) / np.median(image[top], 0) - 1).max() < 0.03
    edge = np.abs(np.diff((arrays["ids"] == 1).mean(-1), axis=1)) > 0.9
    step = np.abs(np.diff(image.mean(-1), axis=1))
    assert step[edge].mean() > 3 * step[~edge].mean()  # silhouettes lie on the same pixels
