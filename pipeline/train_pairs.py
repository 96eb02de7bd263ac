"""Pairs that the refiner learns from: guides as the raster draws them, and the same frame path-traced with rough geometry.

    python -m pipeline.train_pairs --out train/refine [--limit N] [--spp 24]

In: nothing but code: the takes are `neural/training_shots.py`, their poses `neural/staged_collapse.py`. Out: per take a
folder with `guides/` (as `draw` writes them) and `reference/` (frame.N.npz with reference (H, W, 3) f32 scene-linear, no
dust). Run again it goes on where it was, and where guides were deleted it draws them and puts the reference together again,
without tracing. The reference shows what the raster cannot: light that bounces, soft skylight, shadows of fracture faces
that are rough (`neural/rough_surface.py`). It is traced with flat colours and multiplied by the ratio of drawn to flat
albedo, so that both pictures carry the same surface pattern: bounced light sees the mean colour only. Relief finer than the
mesh (`neural/relief.py`) is laid on in the same way, as the refiner lays it on the raster. Path tracing leaves
noise, which a network would learn as texture: Open Image Denoise removes it. Needs the extra `reference` (mitsuba, pyoidn).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

import render.reference as reference_module
from neural.guide_tensor import lens_of
from neural.relief import relief_factor
from neural.rough_surface import roughen
from neural.staged_collapse import staged_poses
from neural.training_shots import SEED, Take, takes
from render.draw import draw
from render.reference import detail_and_haze, interpreter_find, interpreter_run, scene_arrays
from render.sky import sky_of
from shot.frames import FrameFolder
from shot.results import Bonds, Fragments, Motion, progress_silent

PATH_TRACER = Path(reference_module.__file__).with_name("path_trace.py")
EDGE_PIXELS = 1.0  # edge length of the rough mesh in pixels, as seen
EDGE_LEAST = 0.025  # [m]
TRIANGLES = 4e5  # most in a rough scene; beyond, all edges grow alike


def main() -> None:
    """Make every pair that is not there yet."""
    parser = argparse.ArgumentParser(description="Make the pairs that the refiner learns from.")
    parser.add_argument("--out", type=Path, default=Path("train/refine"))
    parser.add_argument("--limit", type=int, default=10000, help="takes")
    parser.add_argument("--spp", type=int, default=24, help="samples per pixel; held-out frames take twice as many")
    options = parser.parse_args()
    for take in takes()[: options.limit]:
        begun = time.process_time()
        if pair_make(take, options.out, options.spp * (1 + take.held_out)):
            print(f"{take.name}: {len(take.frames)} frames, {time.process_time() - begun:.1f} CPU s", flush=True)


def pair_make(take: Take, out: Path, spp: int) -> bool:
    """Trace and draw what is missing of a take; False if nothing was. Without its guides a reference is put together again."""
    folder = {name: FrameFolder(out / take.name / name) for name in ("motion", "traced", "guides", "reference")}
    wanted = guide_frames(take)
    if folder["guides"].frames_done(wanted) == len(wanted) and all(folder["reference"].has_frame(f) for f in take.frames):
        return False
    fragments, bonds = building_of(take.building, out)
    motion = staged_motion(take, fragments, bonds, folder["motion"])
    guides = draw(take.shot, fragments, bonds, motion, None, None, None, folder["guides"], wanted, progress_silent)
    horizon = sky_of(take.shot.light).horizon.astype(np.float32)
    for frame in take.frames:
        arrays = guides.frame(frame)
        if not folder["traced"].has_frame(frame):
            folder["traced"].put_frame(frame, {"radiance": radiance_of(take, fragments, motion, arrays, frame, spp)})
        ratio, clear = detail_and_haze(take.shot, fragments, motion, None, None, frame)
        lens = lens_of(guides.folder.get("static"), frame - take.shot.first, take.shot.camera.height)
        relief = relief_factor(arrays, lens, take.shot.light, take.shot.seed)
        picture = folder["traced"].get_frame(frame)["radiance"] * relief * ratio + (1 - clear)[..., None] * horizon
        folder["reference"].put_frame(frame, {"reference": picture})
    return True


def guide_frames(take: Take) -> list[int]:
    """Frames to draw: those with a reference; a held-out take is refined from its very first frame on."""
    return list(take.shot.frame_range if take.held_out else take.frames)


@lru_cache(maxsize=2)
def building_of(name: str, out: Path) -> tuple[Fragments, Bonds]:
    """Fragments of a training building, made once."""
    from assets.building import build
    from sim.fracture import shatter

    folder = FrameFolder(out / "buildings" / name)
    if (folder.path / "bonds.npz").exists():
        return Fragments.load(folder), Bonds.load(folder)
    shot = next(take.shot for take in takes() if take.building == name).model_copy(update={"seed": SEED})
    return shatter(shot, build(shot, folder, Path("."), progress_silent), folder, progress_silent)


def staged_motion(take: Take, fragments: Fragments, bonds: Bonds, folder: FrameFolder) -> Motion:
    """Poses and break log of a take."""
    told = np.zeros(bonds.count, bool)
    for frame in take.shot.frame_range:
        now = take.seconds + (frame - take.shot.first) / take.shot.fps
        position, rotation, loose = staged_poses(fragments, now, take.seed)
        other = np.where(bonds.fragment_b >= 0, loose[bonds.fragment_b], np.inf)
        broken = (np.minimum(loose[bonds.fragment_a], other) <= now) & (loose[bonds.fragment_a] != other) & ~told
        told |= broken
        folder.put_frame(frame, {
            "position": position.astype(np.float32), "rotation": rotation.astype(np.float32),
            "velocity": np.zeros((fragments.count, 3), np.float32), "angular_velocity": np.zeros((fragments.count, 3), np.float32),
            "break_bond": np.flatnonzero(broken).astype(np.int32),
            "break_time": np.minimum(loose[bonds.fragment_a], other)[broken] - take.seconds,
        })
    return Motion(folder)


def rough_of(take: Take, fragments: Fragments, arrays: Mapping[str, np.ndarray]) -> Fragments:
    """Fragments with rough meshes where the frame shows faces made by a cut, as fine as it shows each."""
    ids = np.unique(arrays["id"][arrays["interior"] > 0])
    ids = ids[(ids > 0) & (ids <= fragments.count)]
    pixel = 2 * np.tan(np.radians(take.shot.camera.fov) / 2) / take.shot.camera.height
    edge = np.full(fragments.count, np.inf)
    near = np.full(fragments.count + 2, np.inf)
    np.minimum.at(near, arrays["id"].reshape(-1).clip(0, fragments.count + 1), arrays["depth"].reshape(-1))
    edge[ids - 1] = np.maximum(EDGE_PIXELS * pixel * near[ids], EDGE_LEAST)
    corner = fragments.vertex[fragments.face + np.repeat(fragments.vertex_start[:-1], np.diff(fragments.face_start))[:, None]]
    area = 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    owned = np.add.reduceat(area * fragments.face_interior, fragments.face_start[:-1])
    wanted = np.sum(4 * owned / edge**2)  # halving leaves triangles of about edge^2 / 4
    return roughen(fragments, edge * max(1.0, np.sqrt(wanted / TRIANGLES)), SEED)


def radiance_of(
    take: Take, fragments: Fragments, motion: Motion, arrays: Mapping[str, np.ndarray], frame: int, spp: int
) -> np.ndarray:
    """(H, W, 3) f32: rough geometry in flat colours, traced and cleaned of noise."""
    rough = rough_of(take, fragments, arrays)
    python = interpreter_find()
    with tempfile.TemporaryDirectory() as temporary:
        scene, traced, noisy, smooth = (Path(temporary) / name for name in ("scene.npz", "traced.npy", "noisy.npz", "smooth.npy"))
        np.savez(scene, **scene_arrays(take.shot, rough, motion, None, None, frame, spp))  # type: ignore[arg-type]
        interpreter_run(python, [str(PATH_TRACER), str(scene), str(traced)])
        np.savez(noisy, colour=np.load(traced))
        interpreter_run(python, [str(Path(__file__).with_name("train_denoise.py")), str(noisy), str(smooth)])
        return np.load(smooth)


if __name__ == "__main__":
    main()
