"""A path-traced picture of one frame, pixel for pixel on our camera: the truth a refiner learns from and is measured by.

In: Shot, Fragments, Motion (and Shed with Debris), a frame, samples per pixel, a Python that has mitsuba. Out: (H, W, 3)
float32 linear radiance in the units of `solid`: same camera, sun, sky, poses and albedo. What it adds to the raster: light
that bounces, a sun 0.53 degrees wide, exact occlusion. Mitsuba sees the flat base colour of each face; the weathering, finer
than any mesh, is multiplied on afterwards as the ratio of the two raster albedos at the first hit, and haze is laid on by distance.
Solids only: no dust. The noise falls with 1 / sqrt(spp).
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from render.camera import camera_pose, ray_of
from render.draw import frame_input, scene_open
from render.scene_tables import Solid, body_poses, body_table, fragment_solid, material_table, rock_choice, rock_solids
from render.sky import sky_of, sky_radiance
from shot import hashing
from shot.errors import MissingResource
from shot.frames import arrays_pack, file_publish
from shot.params import Shot
from shot.results import Debris, Fragments, Motion, Shed

SUN_RADIUS = np.radians(0.266)
SUNS = 8  # directions spread over the sun's disc
PYTHON_VARIABLE = "DEMOLISH_MITSUBA_PYTHON"
INSTALL_LINE = f"python -m venv mitsuba-env && mitsuba-env/bin/pip install mitsuba numpy, then {PYTHON_VARIABLE}=mitsuba-env/bin/python"


def reference(shot: Shot, fragments: Fragments, motion: Motion, frame: int, spp: int, python: str | Path, out: Path,
              shed: Shed | None = None, debris: Debris | None = None) -> np.ndarray:
    """Path-trace a frame into `out` (.npy) and return it. Raises MissingResource where `python` has no mitsuba."""
    ratio, clear = detail_and_haze(shot, fragments, motion, shed, debris, frame)
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.npz"
        file_publish(scene, arrays_pack(scene_arrays(shot, fragments, motion, shed, debris, frame, spp), 0))
        traced = Path(folder) / "traced.npy"
        interpreter_run(python, [str(Path(__file__).with_name("path_trace.py")), str(scene), str(traced)])
        radiance = np.load(traced)
    horizon = sky_of(shot.light).horizon.astype(np.float32)
    image = radiance * ratio + (1 - clear)[..., None] * horizon
    np.save(out, image)
    return image


def interpreter_find() -> str:
    """The interpreter named by DEMOLISH_MITSUBA_PYTHON. Raises MissingResource where it is unset."""
    python = os.environ.get(PYTHON_VARIABLE, "")
    if not python:
        raise MissingResource(f"{PYTHON_VARIABLE} is not set: {INSTALL_LINE}")
    return python


def interpreter_run(python: str | Path, arguments: list[str]) -> None:
    """Run a script with mitsuba. Raises MissingResource with the line that installs what it lacks, or RuntimeError with its last words."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    try:
        done = subprocess.run([str(python), *arguments], capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        raise MissingResource(f"{python}: {error.strerror}: {INSTALL_LINE}") from error
    if done.returncode:
        missing = re.search(r"No module named '(\w+)", done.stderr)
        if missing:
            raise MissingResource(f"{python} has no {missing[1]}: {python} -m pip install {missing[1]}")
        raise RuntimeError(f"{Path(arguments[0]).name} failed ({done.returncode}): {done.stderr[-2000:]}")


def scene_arrays(shot: Shot, fragments: Fragments, motion: Motion, shed: Shed | None, debris: Debris | None, frame: int,
                 spp: int) -> dict[str, np.ndarray]:
    """The scene that path_trace.py reads."""
    pose, sky = camera_pose(shot, frame), sky_of(shot.light)
    vertex, face, colour = posed_triangles(shot, fragments, motion, shed, debris, frame)
    return {
        "vertex": vertex, "face": face, "colour": colour, "eye": pose.eye, "target": pose.eye - pose.turn[2], "up": pose.turn[1],
        "fov": np.array(shot.camera.fov), "width": np.array(pose.width), "height": np.array(pose.height), "spp": np.array(spp),
        "seed": np.array(int(hashing.hashed(shot.seed, "reference", frame)) & 0x7FFFFFFF), "suns": sun_disc(sky.sun),
        "sun": np.pi * sky.sun_radiance / SUNS, "sky": sky_map(sky), "near": np.array(shot.camera.near), "far": np.array(1e5),
    }


def sun_disc(sun: np.ndarray) -> np.ndarray:
    """(SUNS, 3) directions spread evenly over the sun's disc (sunflower), their mean along `sun`."""
    index = np.arange(SUNS)
    radius = SUN_RADIUS * np.sqrt((index + 0.5) / SUNS)
    angle = index * np.pi * (3 - 5**0.5)
    right = np.cross([0.0, 1.0, 0.0] if abs(sun[1]) < 0.9 else [1.0, 0.0, 0.0], sun)
    right /= np.linalg.norm(right)
    offset = np.tan(radius)[:, None] * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * np.cross(sun, right))
    offset -= offset.mean(0)
    direction = sun + offset
    return direction / np.linalg.norm(direction, axis=1, keepdims=True)


def sky_map(sky, rows: int = 256) -> np.ndarray:
    """(rows, 2 rows, 3) latitude-longitude radiance in Mitsuba's layout: u = atan2(x, -z) / 2 pi, v = acos(y) / pi."""
    theta = (np.arange(rows) + 0.5)[:, None] * np.pi / rows
    phi = (np.arange(2 * rows) + 0.5)[None] * np.pi / rows
    direction = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi, -np.sin(theta) * np.cos(phi)], -1)
    low = (direction[..., 1] <= 0) & (direction[..., 1] > -0.05)  # what shows past the far edge of the ground is horizon, as in the raster
    direction[low, 1] = 1e-6
    return sky_radiance(sky, direction).astype(np.float32)


def posed_triangles(shot: Shot, fragments: Fragments, motion: Motion, shed: Shed | None, debris: Debris | None,
                    frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World vertices (V, 3), faces (T, 3) and flat colours (T, 3) of fragments, living debris and ground, as drawn."""
    seeds = shed.until(shot.first, frame) if shed is not None else None
    poses = body_poses(shot, fragments, motion, seeds, debris, frame)
    bodies = body_table(shot, fragments, seeds)
    materials = material_table(shot, fragments.material_name)
    solid = fragment_solid(fragments)
    parts = [posed(solid, solid.body, poses, bodies, materials)]
    if seeds is not None and np.any(poses.alive):
        choice = rock_choice(shot, seeds)
        for shape, rock in enumerate(rock_solids(shot.seed)):
            for piece in np.flatnonzero(poses.alive & (choice == shape)):
                body = np.full(len(rock.vertex), fragments.count + 1 + piece)
                parts.append(posed(rock, body, poses, bodies, materials))
    reach = shot.camera.far
    eye = camera_pose(shot, frame).eye
    corners = eye * [1, 0, 1] + reach * np.array([[-1, 0, -1], [-1, 0, 1], [1, 0, 1], [1, 0, -1]], float)
    parts.append((corners, np.array([[0, 1, 2], [0, 2, 3]]), np.tile(materials[-1, :3], (2, 1))))
    starts = np.cumsum([0] + [len(p[0]) for p in parts[:-1]])
    return (np.concatenate([p[0] for p in parts]).astype(np.float32),
            np.concatenate([p[1] + start for p, start in zip(parts, starts, strict=True)]).astype(np.uint32),
            np.concatenate([p[2] for p in parts]).astype(np.float32))


def posed(solid: Solid, body: np.ndarray, poses, bodies: np.ndarray, materials: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """World vertices, faces and flat colours of a solid."""
    vertex = np.einsum("vij,vj->vi", poses.linear[body], solid.vertex) + poses.position[body]
    owner = body[solid.face[:, 0]]
    row = materials[bodies[owner, 4].astype(int)]
    colour = np.where(solid.normal[:, 3:] > 0.5, row[:, 4:7], row[:, :3]) * bodies[owner, 3:4]
    return vertex, solid.face.astype(np.int64), colour


def detail_and_haze(shot: Shot, fragments: Fragments, motion: Motion, shed: Shed | None, debris: Debris | None,
                    frame: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) factor that brings flat colour to weathered colour seen through haze, and (H, W) share of haze-free light."""
    scene = scene_open(shot, fragments, None, rocks=shed is not None)
    pose = camera_pose(shot, frame)
    seeds = shed.until(shot.first, frame) if shed is not None else None
    given, _ = frame_input(shot, scene, fragments, motion, seeds, debris, frame)
    scene.renderer.draw_shadow(scene.graph, given)
    flat = scene.renderer.draw_guides(
        scene.graph, replace(given, uniforms=given.uniforms | {"detail": 0.0}), None).ambient[..., :3].copy()
    fine = scene.renderer.draw_guides(scene.graph, given, None)
    ratio = np.where(flat > 0, fine.ambient[..., :3] / np.maximum(flat, 1e-12), 1)
    h, w = pose.height, pose.width
    y, x = np.mgrid[0:2 * h, 0:2 * w]
    ray = ray_of(pose, np.stack([x + 0.5, y + 0.5], -1) / 2)
    clear = np.exp(-(fine.direct[..., 3] ** 2) * (ray * ray).sum(-1) / shot.look.haze**2)
    clear = np.where(np.isfinite(fine.direct[..., 3]), clear, 1)
    averaged = (ratio * clear[..., None]).reshape(h, 2, w, 2, 3).mean((1, 3))
    return averaged.astype(np.float32), clear.reshape(h, 2, w, 2).mean((1, 3)).astype(np.float32)
