"""What goes into the OpenGL pass for one frame and what comes out of it. Data only, so that others need no OpenGL to name it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLES = 2  # per pixel and axis


@dataclass(frozen=True)
class Samples:
    """What the pass leaves, (2 H, 2 W, channels); layouts in shaders/light.glsl."""

    direct: np.ndarray
    ambient: np.ndarray
    albedo: np.ndarray
    normal: np.ndarray
    id: np.ndarray
    motion: np.ndarray


@dataclass(frozen=True)
class FrameInput:
    """What changes from frame to frame."""

    poses: np.ndarray  # (B, 9, 4) f32: rows now, before, after, see shaders/solid.vert
    bodies: np.ndarray  # (B, 8) f32: see scene_tables.body_table
    instances: list[np.ndarray]  # bodies of each rock shape
    uniforms: dict  # name -> number or array, for every program
    light_clip: np.ndarray  # (4, 4) eye-relative world to shadow map, 0..1


@dataclass(frozen=True)
class DustLight:
    """Sunlight that the dust lets through, at cell centres of a box."""

    transmittance: np.ndarray  # (x, y, z) f32
    lower: np.ndarray  # (3) f64 [m] corner of the box, world
    extent: np.ndarray  # (3) f64 [m]
