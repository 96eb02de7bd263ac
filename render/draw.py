"""The `draw` stage: everything the picture needs to know, pixel by pixel, and a raster picture that already reads as a building.

In: Fragments, Bonds, Motion and, where the shot has them, Shed, Debris and Dust. Out: Guides (shot/results.py lists the arrays).
A frame depends on nothing but its own inputs (its neighbours' poses for motion, the break log up to it for age), so any
subset of frames on any machine with the same OpenGL gives the same bytes. Reads shot.camera, light, look, materials, seed,
first, frames, fps. Always sharp: no motion blur, no depth of field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from render import scene_tables as tables
from render.ambient import ShadowMap, SurfacePoints, Veil, ambient_irradiance, ambient_lattice, ambient_light, surface_points
from render.camera import Pose, camera_pose, ray_of
from render.dust_march import DustImage, dust_image, dust_light, dust_sun, dust_volume
from render.light_grid import Lattice, grid_resample
from render.post import ambient_occlusion, edges
from render.resolve import pixels_resolve
from render.samples import SAMPLES, FrameInput
from render.sky import Sky, sky_of
from shot.device import taichi_open
from shot.frames import FrameFolder, FrameWriter
from shot.params import Shot
from shot.results import Bonds, Debris, Dust, Fragments, Guides, Motion, Progress, Seeds, Shed

RUN_OUT = 0.6  # of the building's height: how far around its plan the shadow map reaches


def draw(shot: Shot, fragments: Fragments, bonds: Bonds, motion: Motion, shed: Shed | None, debris: Debris | None,
         dust: Dust | None, folder: FrameFolder, frames: Sequence[int], progress: Progress) -> Guides:
    """Draw the wanted frames that are not in the folder yet. Raises MissingResource without EGL."""
    missing = [frame for frame in frames if not folder.has_frame(frame)]
    if not folder.has("static"):
        folder.put("static", static_arrays(shot))
    if missing:
        taichi_open()
        scene = scene_open(shot, fragments, dust, rocks=shed is not None)
        breaks = tables.Breaks(shot, fragments, bonds, motion)
        inputs = tables.Recent(motion), shed, tables.Recent(debris) if debris is not None else None, dust
        with FrameWriter(folder, progress) as writer:
            for frame in missing:
                writer.put(frame, frame_arrays(shot, scene, fragments, breaks, inputs, frame))
    return Guides(folder)


def static_arrays(shot: Shot) -> dict[str, np.ndarray]:
    """What holds for all frames: see Guides."""
    sky = sky_of(shot.light)
    poses = [camera_pose(shot, frame) for frame in shot.frame_range]
    return {
        "version": np.array(Guides.VERSION, np.int32), "view": np.stack([p.view for p in poses]), "projection": poses[0].projection,
        "sun": sky.sun, "exposure": np.array(sky.exposure),
    }


@dataclass(frozen=True)
class Scene:
    """A shot on the GPU."""

    sky: Sky
    graph: Any  # pyrender.Scene
    renderer: Any  # render.gl.GuideRenderer
    shapes: int  # of rocks
    light: np.ndarray  # (4, 4) f64 world to shadow map
    lattice: Lattice  # of the ambient light
    points: SurfacePoints


def scene_open(shot: Shot, fragments: Fragments, dust: Dust | None, rocks: bool) -> Scene:
    """Upload geometry and tables; `rocks` where debris may be shed."""
    from render.compat import pyrender_open
    from render.gl import renderer_open

    pyrender = pyrender_open()
    renderer = renderer_open()
    from render.batch import FragmentBatch

    batches = [FragmentBatch(rock, order, True) for order, rock in enumerate(tables.rock_solids(shot.seed) if rocks else [])]
    shapes, solid = len(batches), tables.fragment_solid(fragments)
    batches.append(FragmentBatch(solid, shapes, False))
    graph = pyrender.Scene()
    graph.add(pyrender.Mesh(batches))
    sky = sky_of(shot.light)
    materials = tables.material_table(shot, fragments.material_name)
    light, texel = light_matrix(shot, fragments, sky)
    uniforms = {
        "sun": sky.sun, "sun_radiance": sky.sun_radiance, "sky_horizon": sky.horizon, "sky_zenith": sky.zenith, "sky_glow": sky.glow,
        "haze": float(shot.look.haze), "shadow_texel": texel, "shadow_size": float(shot.look.shadow_size),
        "half_size": np.array([shot.camera.width, shot.camera.height]) / 2, "weathering": float(shot.look.weathering),
        "brick": np.array(shot.materials.brick.unit), "detail": 1.0, "fragment_count": fragments.count,
        "ground_material": len(fragments.material_name), "ground_id": fragments.count + 1, "reach": float(shot.camera.far),
    }
    renderer.open_shot(graph, shot.camera.width, shot.camera.height, shot.look.shadow_size, materials.reshape(-1, 4), uniforms)
    lattice = ambient_lattice(*air_box(fragments, dust), shot.look.ambient_cells)
    points = surface_points(shot, fragments, lattice, solid.normal, tables.body_table(shot, fragments, None), materials)
    return Scene(sky, graph, renderer, shapes, light, lattice, points)


def rest_box(fragments: Fragments) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner of the building at rest, widened by RUN_OUT of its height: where pieces will be."""
    owner = np.repeat(np.arange(fragments.count), np.diff(fragments.vertex_start))
    points = (fragments.vertex + fragments.position[owner])[fragments.built[owner]]
    lower, upper = points.min(0), points.max(0)
    margin = RUN_OUT * (upper[1] - lower[1]) + 1.0
    return lower - [margin, 1.0, margin], upper + [margin, 2.0, margin]


def air_box(fragments: Fragments, dust: Dust | None) -> tuple[np.ndarray, np.ndarray]:
    """The box of the ambient light: pieces and dust, from the ground up."""
    lower, upper = rest_box(fragments)
    if dust is not None:
        grid = dust.grid
        lower = np.minimum(lower, grid["origin"])
        upper = np.maximum(upper, grid["origin"] + grid["cell"] * grid["shape"])
    lower[1] = max(lower[1], 0.0)
    return lower, upper


def light_matrix(shot: Shot, fragments: Fragments, sky: Sky) -> tuple[np.ndarray, float]:
    """World to shadow map in 0..1 and the side of a texel [m]: one fit for the whole shot, so that shadow edges never swim.

    It holds the building at rest widened by RUN_OUT of its height; what casts from farther out casts no shadow."""
    lower, upper = rest_box(fragments)
    corners = np.stack(np.meshgrid(*np.stack([lower, upper], 1), indexing="ij"), -1).reshape(-1, 3)
    up = np.array([0.0, 1.0, 0.0]) if abs(sky.sun[1]) < 0.999 else np.array([0.0, 0.0, -1.0])
    right = np.cross(up, sky.sun)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(sky.sun, right), -sky.sun])
    low, high = (corners @ axes.T).min(0), (corners @ axes.T).max(0)
    side = max(high[0] - low[0], high[1] - low[1])
    extent = np.array([side, side, high[2] - low[2]])
    matrix = np.eye(4)
    matrix[:3, :3] = axes / extent[:, None]
    matrix[:3, 3] = -low / extent
    return matrix, float(side / shot.look.shadow_size)


def frame_arrays(shot: Shot, scene: Scene, fragments: Fragments, breaks: tables.Breaks,
                 inputs: tuple[tables.Frames, Shed | None, tables.Frames | None, Dust | None], frame: int) -> dict[str, np.ndarray]:
    """All arrays of one frame of Guides."""
    motion, shed, debris, dust = inputs
    pose, sky = camera_pose(shot, frame), scene.sky
    seeds = shed.until(shot.first, frame) if shed is not None else None
    given, now = frame_input(shot, scene, fragments, motion, seeds, debris, frame)
    scene.renderer.draw_shadow(scene.graph, given)
    volume = dust_volume(shot, dust.grid, dust.frame(frame)) if dust is not None else None
    shadow = ShadowMap(scene.renderer.read_shadow(), scene.light)
    if volume is None:
        sun = shade = veil = None
    else:
        sun = dust_sun(volume, sky, shadow.depth, scene.light)
        shade = dust_light(sun)
        veil = Veil(grid_resample(volume.extinction, volume.lower, volume.cell, scene.lattice),
                    grid_resample(sun.lit * shade.transmittance, sun.lattice.lower, sun.lattice.cell, scene.lattice),
                    np.asarray(shot.look.dust_albedo, np.float32))
    air = ambient_light(scene.lattice, scene.points, now, shadow, veil, sky)
    samples = scene.renderer.draw_guides(scene.graph, given, shade)
    age = tables.body_ages(shot, fragments, seeds, breaks.youngest(frame), frame)
    px = pixels_resolve(samples, pose, given.poses[:, :3].copy(), given.bodies[:, :3].copy(), age)
    occlusion = ambient_occlusion(px.depth, px.normal, pose, shot.look.occlusion_radius, shot.look.occlusion)
    light, share = ambient_irradiance(air, sky, px.depth, px.normal, pose)
    solid = px.direct + px.ambient * light * occlusion[..., None]
    occlusion *= share
    h, w = px.depth.shape
    if volume is None or sun is None:
        veiled = DustImage(np.zeros((h, w, 4), np.float32), np.full((h, w), np.inf, np.float32), np.zeros((h, w, 2), np.float32))
    else:
        veiled = dust_image(shot, volume, sun, air, sky, px.depth, pose, frame)
    half = np.float16
    return {
        "solid": solid.astype(half), "albedo": px.albedo, "normal": px.normal.astype(half), "sun": px.sun.astype(half),
        "depth": px.depth, "ids": px.ids, "id": px.id, "motion_backward": px.motion_backward, "motion_forward": px.motion_forward,
        "rest": px.rest, "interior": px.interior.astype(half), "age": px.age.astype(half), "occlusion": occlusion.astype(half),
        "edge": edges(px.depth, px.normal, pose).astype(half), "alpha": px.alpha.astype(half),
        "dust": veiled.dust.astype(half), "dust_depth": veiled.depth, "dust_motion": veiled.motion.astype(half),
    }


def frame_rows(shot: Shot, fragments: Fragments, motion: tables.Frames, seeds: Seeds | None, debris: tables.Frames | None,
               frame: int) -> tuple[np.ndarray, tables.Poses]:
    """(B, 9, 4) f32 pose rows now, before and after, each relative to its own eye, and the poses now."""
    now = tables.body_poses(shot, fragments, motion, seeds, debris, frame)
    before = tables.body_poses(shot, fragments, motion, seeds, debris, frame - 1, now.alive) if frame > shot.first else now
    after = tables.body_poses(shot, fragments, motion, seeds, debris, frame + 1) if frame + 1 < shot.first + shot.frames else now
    eyes = [camera_pose(shot, f).eye for f in (frame, frame - 1, frame + 1)]
    count = tables.body_count(fragments, seeds)
    rows = np.empty((count, 9, 4), np.float32)
    for slot, (poses, eye) in enumerate(zip((now, before, after), eyes, strict=True)):
        rows[:, 3 * slot:3 * slot + 3] = tables.pose_rows(poses, eye)
    return rows, now


def frame_input(shot: Shot, scene: Scene, fragments: Fragments, motion: tables.Frames, seeds: Seeds | None, debris: tables.Frames | None,
                frame: int) -> tuple[FrameInput, tables.Poses]:
    """Matrices and tables of one frame for the renderer, and the poses now."""
    rows, poses = frame_rows(shot, fragments, motion, seeds, debris, frame)
    rocks = tables.rock_choice(shot, seeds) if seeds is not None else np.zeros(0, np.int32)
    instances = [fragments.count + 1 + np.flatnonzero(poses.alive & (rocks == shape)) for shape in range(scene.shapes)]
    now, before, after = (camera_pose(shot, f) for f in (frame, frame - 1, frame + 1))
    shift = np.eye(4)
    shift[:3, 3] = now.eye
    uniforms = {
        "clip_now": clip_matrix(now), "clip_before": clip_matrix(before), "clip_after": clip_matrix(after),
        "axis": -now.turn[2], "pixel_angle": 2 / (now.projection[1, 1] * now.height * SAMPLES), "eye": now.eye,
        "eye_before": now.eye - before.eye, "eye_after": now.eye - after.eye, "eye_height": float(now.eye[1]), "ray": ray_matrix(now),
    }
    return FrameInput(rows, tables.body_table(shot, fragments, seeds), instances, uniforms, scene.light @ shift), poses


def clip_matrix(pose: Pose) -> np.ndarray:
    """Eye-relative world to clip, rows downwards."""
    turn = np.eye(4)
    turn[:3, :3] = pose.turn
    return np.diag([1.0, -1.0, 1.0, 1.0]) @ pose.projection @ turn


def ray_matrix(pose: Pose) -> np.ndarray:
    """(3, 3) flipped normalised coordinates (x, y, 1) to a world direction of depth 1."""
    half = np.array([pose.width, pose.height]) / 2
    corner, right, down = ray_of(pose, np.array([half, half + [half[0], 0.0], half + [0.0, half[1]]]))
    return np.stack([right - corner, down - corner, corner], 1)
