"""The camera of a shot: poses, projection, pixels. Pure numpy, float64; shared inside `render`.

In: `Shot.camera`, a frame. Out: view (world to camera, looking along -Z, Y up) and OpenGL projection matrices, pixel
positions of points and rays of pixels. Pixel (column x, row y) has its centre at (x + 0.5, y + 0.5), row 0 at the top:
    x = (1 + ndc_x) W / 2,   y = (1 - ndc_y) H / 2,   ndc = (P V p) / w.
A pinhole without lens distortion or depth of field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shot.params import Camera, Light, Shot


@dataclass(frozen=True)
class Pose:
    """Camera of one frame."""

    view: np.ndarray  # (4, 4) f64 world to camera
    projection: np.ndarray  # (4, 4) f64 camera to clip
    eye: np.ndarray  # (3) f64 [m]
    width: int  # [px]
    height: int  # [px]

    @property
    def turn(self) -> np.ndarray:
        """(3, 3) world to camera without the translation: for eye-relative positions."""
        return self.view[:3, :3]


def camera_pose(shot: Shot, frame: int) -> Pose:
    """Camera at a frame; any frame number, also outside the shot."""
    camera = shot.camera
    seconds = (frame - shot.first) / shot.fps
    eye = np.asarray(camera.position, float) + np.asarray(camera.move, float) * seconds
    target = np.asarray(camera.target, float) + np.asarray(camera.move, float) * seconds
    return Pose(view_matrix(eye, target), projection_matrix(camera), eye, camera.width, camera.height)


def view_matrix(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Look-at with Y up; straight up or down takes -Z as up. Raises ValueError where eye and target coincide."""
    back = np.asarray(eye, float) - np.asarray(target, float)
    length = np.linalg.norm(back)
    if length < 1e-9:
        raise ValueError("camera.target equals camera.position: no direction to look in")
    back = back / length
    up = np.array([0.0, 1.0, 0.0]) if abs(back[1]) < 1 - 1e-9 else np.array([0.0, 0.0, -1.0])
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = np.stack([right, np.cross(back, right), back])
    view[:3, 3] = -view[:3, :3] @ np.asarray(eye, float)
    return view


def projection_matrix(camera: Camera) -> np.ndarray:
    """OpenGL perspective matrix of a vertical field of view."""
    f = 1.0 / np.tan(np.radians(camera.fov) / 2)
    near, far = camera.near, camera.far
    return np.array([
        [f * camera.height / camera.width, 0, 0, 0],
        [0, f, 0, 0],
        [0, 0, (far + near) / (near - far), 2 * far * near / (near - far)],
        [0, 0, -1.0, 0],
    ])


def pixel_of(pose: Pose, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions (..., 2) and depth along the view axis (...) of world points (..., 3)."""
    local = (np.asarray(point, float) - pose.eye) @ pose.turn.T
    clip = local @ pose.projection[:3, :3].T
    depth = -local[..., 2]
    x = (1 + clip[..., 0] / depth) * pose.width / 2
    y = (1 - clip[..., 1] / depth) * pose.height / 2
    return np.stack([x, y], -1), depth


def ray_of(pose: Pose, pixel: np.ndarray) -> np.ndarray:
    """World directions (..., 3) through pixel positions (..., 2), scaled to depth 1 along the view axis."""
    pixel = np.asarray(pixel, float)
    x = (2 * pixel[..., 0] / pose.width - 1) / pose.projection[0, 0]
    y = (1 - 2 * pixel[..., 1] / pose.height) / pose.projection[1, 1]
    return np.stack([x, y, -np.ones_like(x)], -1) @ pose.turn


def ray_frame(pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth-1 ray of pixel position (0, 0) and its change per pixel right and down, world axes."""
    corner, right, down = ray_of(pose, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    return corner, right - corner, down - corner


def sun_direction(light: Light) -> np.ndarray:
    """Unit vector to the sun; azimuth clockwise from -Z seen from above."""
    azimuth, elevation = np.radians(light.azimuth), np.radians(light.elevation)
    return np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)])
