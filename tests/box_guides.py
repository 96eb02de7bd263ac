"""Guides of an analytic scene for tests: rigid boxes over a ground plane, ray-cast in float64, with exact motion and rest positions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shot.frames import FrameFolder
from shot.results import Guides
from shot.rotation import conjugate, rotate

GROUND_ID, FIRST = 99, 1001
SUN = np.array([0.5, 0.7, 0.5]) / np.linalg.norm([0.5, 0.7, 0.5])


@dataclass(frozen=True)
class Box:
    """Half sizes and rest centre [m], velocity [m/frame], spin about `axis` [rad/frame]."""

    half: tuple[float, float, float]
    centre: tuple[float, float, float]
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spin: float = 0.0
    axis: tuple[float, float, float] = (0.0, 1.0, 0.0)

    def pose(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Centre and quaternion after `step` frames."""
        axis = np.array(self.axis) / np.linalg.norm(self.axis)
        half = 0.5 * self.spin * step
        return np.array(self.centre) + step * np.array(self.velocity), np.array([np.cos(half), *(np.sin(half) * axis)])


BOXES = (
    Box((2.0, 3.0, 2.0), (0.0, 3.0, 0.0)),
    Box((1.0, 1.0, 1.5), (-4.5, 4.0, 1.0), (0.05, -0.03, 0.02), 0.03, (1.0, 0.3, 0.2)),
    Box((1.2, 0.8, 0.8), (4.5, 3.0, 2.0), (-0.04, 0.01, 0.0), -0.02, (0.2, 0.1, 1.0)),
)


@dataclass(frozen=True)
class Lens:
    """A camera that drifts by `move` metres per frame and looks along -Z, slightly down."""

    position: tuple[float, float, float] = (0.3, 4.0, 16.0)
    move: tuple[float, float, float] = (0.03, 0.0, -0.02)
    fov: float = 0.75
    down: float = 0.12

    def view(self, step: int) -> np.ndarray:
        """World to camera (4, 4)."""
        c, s = np.cos(self.down), np.sin(self.down)
        turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        eye = np.array(self.position) + step * np.array(self.move)
        view = np.eye(4)
        view[:3, :3], view[:3, 3] = turn, -turn @ eye
        return view

    def projection(self, width: int, height: int) -> np.ndarray:
        """OpenGL projection (4, 4)."""
        f, near, far = 1 / np.tan(self.fov / 2), 0.1, 2000.0
        return np.array([
            [f * height / width, 0, 0, 0], [0, f, 0, 0], [0, 0, (far + near) / (near - far), 2 * far * near / (near - far)], [0, 0, -1, 0]])


def pixel_of(point: np.ndarray, view: np.ndarray, projection: np.ndarray, width: int, height: int) -> np.ndarray:
    """Pixel-centre coordinates (x, y) of world points (..., 3)."""
    clip = np.concatenate([point, np.ones((*point.shape[:-1], 1))], -1) @ (projection @ view).T
    ndc = clip[..., :2] / clip[..., 3:]
    return np.stack([(ndc[..., 0] + 1) * width / 2 - 0.5, (1 - ndc[..., 1]) * height / 2 - 0.5], -1)


def box_frame(
    frame: int, width: int = 160, height: int = 96, boxes=BOXES, lens: Lens = Lens(), ground: bool = True
) -> dict[str, np.ndarray]:
    """All arrays that `Guides` lists, for one frame."""
    step = frame - FIRST
    view, projection = lens.view(step), lens.projection(width, height)
    eye = -view[:3, :3].T @ view[:3, 3]
    ys, xs = np.mgrid[:height, :width]
    across, up = ((xs + 0.5) / width * 2 - 1) / projection[0, 0], (1 - (ys + 0.5) / height * 2) / projection[1, 1]
    ray = np.stack([across, up, -np.ones_like(across)], -1)
    ray = ray @ view[:3, :3]  # depth along the view axis is the ray parameter
    depth = np.full((height, width), np.inf)
    identity = np.zeros((height, width), np.int32)
    normal, rest, before, after = (np.zeros((height, width, 3)) for _ in range(4))

    def hit(mask, t, n, r, b, a, label):
        depth[mask], identity[mask] = t[mask], label
        normal[mask], rest[mask], before[mask], after[mask] = n[mask], r[mask], b[mask], a[mask]

    if ground:
        with np.errstate(divide="ignore", invalid="ignore"):
            t = -eye[1] / ray[..., 1]
        t = np.where(ray[..., 1] < -1e-6, t, np.inf)
        point = eye + np.where(np.isfinite(t), t, 0)[..., None] * ray
        hit((t < 300), t, np.broadcast_to([0.0, 1.0, 0.0], point.shape), point, point, point, GROUND_ID)
    for label, box in enumerate(boxes, start=1):
        centre, turn = box.pose(step)
        origin, local = rotate(conjugate(turn), eye - centre), rotate(conjugate(turn), ray)
        with np.errstate(divide="ignore"):
            near = (-np.sign(local) * box.half - origin) / local
            far = (np.sign(local) * box.half - origin) / local
        t, out = near.max(-1), far.min(-1)
        mask = (t < out) & (t > 0.1) & (t < depth)
        face = near.argmax(-1)
        body = origin + t[..., None] * local
        n = np.zeros_like(local)
        np.put_along_axis(n, face[..., None], -np.sign(np.take_along_axis(local, face[..., None], -1)), -1)

        def at(other: int, box=box, body=body):
            c, q = box.pose(other)
            return c + rotate(q, body)

        hit(mask, t, rotate(turn, n), np.array(box.centre) + body, at(step - 1), at(step + 1), label)
    solid = identity > 0
    here = np.stack([xs, ys], -1).astype(float)
    previous = pixel_of(np.where(solid[..., None], before, eye + 1e6 * ray), lens.view(step - 1), projection, width, height)
    following = pixel_of(np.where(solid[..., None], after, eye + 1e6 * ray), lens.view(step + 1), projection, width, height)
    cosine = np.maximum(normal @ SUN, 0)
    colours = np.array([[0.42, 0.40, 0.37], [0.36, 0.15, 0.09], [0.5, 0.48, 0.45], [0.24, 0.23, 0.22]])
    tint, sky = colours[np.where(identity == GROUND_ID, 3, identity % 3)], np.array([0.42, 0.55, 0.8])
    light = np.where(solid[..., None], tint * (np.array([3.2, 2.95, 2.6]) * cosine[..., None] + sky), sky)
    dust = np.concatenate([np.full((height, width, 3), 0.6), np.ones((height, width, 1))], -1)
    alpha = np.clip(1.2 - 3.6 * xs / width, 0, 0.95)[..., None]
    edge = np.zeros((height, width))
    edge[:, 1:] = identity[:, 1:] != identity[:, :-1]
    half = np.float16
    return {
        "solid": light.astype(half), "albedo": np.round(255 * tint ** (1 / 2.2) * solid[..., None]).astype(np.uint8),
        "normal": normal.astype(half),
        "sun": solid.astype(half), "depth": depth.astype(np.float32), "ids": np.repeat(identity[..., None], 4, -1), "id": identity,
        "motion_backward": (here - previous).astype(np.float32), "motion_forward": (following - here).astype(np.float32),
        "rest": rest.astype(np.float32), "interior": (identity == 2).astype(half), "age": np.full((height, width), 60, half),
        "occlusion": np.ones((height, width), half), "edge": edge.astype(half),
        "dust": (dust * alpha).astype(half), "dust_depth": np.full((height, width), 10, np.float32),
        "dust_motion": np.zeros((height, width, 2), half), "alpha": solid.astype(half),
    }


def box_guides(
    folder: Path, frames, width: int = 160, height: int = 96, lens: Lens = Lens(), version: int = Guides.VERSION, **scene
) -> Guides:
    """A Guides folder of the given frames."""
    out = FrameFolder(folder)
    count = max(frames) - FIRST + 1
    out.put("static", {
        "version": np.array(version, np.int32), "view": np.stack([lens.view(k) for k in range(count)]),
        "projection": lens.projection(width, height), "sun": SUN, "exposure": np.array(1.0)})
    for frame in frames:
        out.put_frame(frame, box_frame(frame, width, height, lens=lens, **scene))
    return Guides(out)
