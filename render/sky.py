"""Sky radiance and the light it sheds: one formula for the raster, the dust and the path-traced reference.

In: `Shot.light`. Out: radiance of a direction, its irradiance as a quadratic form of the normal, exposure.
    L(w) = s [ H + (Z - H) sqrt(w_y) + G (1 - cos_sun)-lobe ]   for w_y >= 0,      L(w) = ground_bounce   below,
with H the pale horizon, Z the deep zenith, G a glow around the sun, and s per channel such that a horizontal face under
open sky receives pi * light.sky. The quadratic form is a least-squares fit of the cosine-convolved radiance (Ramamoorthi and
Hanrahan 2001 use its projection); its error is below 1 % of the open-sky value. No turbidity model, no clouds, no night.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from render.camera import sun_direction
from shot.params import Light

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
HORIZON, ZENITH = 1.35, 0.72  # radiance against the mean; a clear sky is brightest low down
PALENESS = 0.65  # how far the horizon loses its colour
GLOW, GLOW_G = 0.035, 0.72  # share of the sun's irradiance scattered into a Henyey-Greenstein lobe around it


@dataclass(frozen=True)
class Sky:
    """Sky of a shot, ready for shaders."""

    sun: np.ndarray  # (3) f64 unit, to the sun
    sun_radiance: np.ndarray  # (3) f64 of a white face turned to the sun (irradiance / pi)
    horizon: np.ndarray  # (3) f64 radiance
    zenith: np.ndarray  # (3) f64 radiance
    glow: np.ndarray  # (3) f64 radiance of the lobe where its phase is 1
    bounce: np.ndarray  # (3) f64 radiance from below
    irradiance: np.ndarray  # (10, 3) f64 irradiance / pi = basis(normal) @ irradiance, see `normal_basis`
    exposure: float  # brings a white horizontal face in full sun and sky to luminance 1


def sky_of(light: Light) -> Sky:
    """The sky of a light."""
    sun = sun_direction(light)
    colour = np.asarray(light.sky, float)
    pale = (1 - PALENESS) * colour + PALENESS * (colour @ LUMINANCE)
    raw = Sky(sun, np.asarray(light.sun, float), HORIZON * pale, ZENITH * colour, GLOW * np.asarray(light.sun, float),
              np.asarray(light.ground_bounce, float), np.zeros((10, 3)), 1.0)
    direction, weight = sphere_directions(64, 96)
    up = direction[:, 1] > 0
    flat = (sky_radiance(raw, direction[up]) * (direction[up, 1] * weight[up])[:, None]).sum(0) / np.pi
    scale = colour / np.maximum(flat, 1e-12)
    scaled = Sky(sun, raw.sun_radiance, raw.horizon * scale, raw.zenith * scale, raw.glow * scale, raw.bounce, raw.irradiance, 1.0)
    normal, _ = sphere_directions(12, 24)
    cosine = np.maximum(normal @ direction.T, 0) * weight
    want = cosine @ sky_radiance(scaled, direction) / np.pi
    fit = np.linalg.lstsq(normal_basis(normal), want, rcond=None)[0]
    white = scaled.sun_radiance * max(sun[1], 0.0) + colour
    return Sky(sun, scaled.sun_radiance, scaled.horizon, scaled.zenith, scaled.glow, scaled.bounce, fit,
               float(1.0 / max(white @ LUMINANCE, 1e-6)))


def sky_radiance(sky: Sky, direction: np.ndarray) -> np.ndarray:
    """Radiance (..., 3) arriving from unit directions (..., 3), the sun's disc left out."""
    y = direction[..., 1:2]
    cosine = direction @ sky.sun
    g = GLOW_G
    lobe = (1 - g) ** 3 / np.power(1 + g * g - 2 * g * cosine, 1.5)[..., None]
    above = sky.horizon + (sky.zenith - sky.horizon) * np.sqrt(np.maximum(y, 0)) + sky.glow * lobe / (1 - g)
    return np.where(y > 0, above, sky.bounce)


def normal_basis(normal: np.ndarray) -> np.ndarray:
    """(..., 10) monomials 1, x, y, z, xy, yz, zx, xx, yy, y^3 of unit normals; y^3 sharpens the step at the horizon."""
    x, y, z = np.moveaxis(normal, -1, 0)
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, z * x, x * x, y * y, y * y * y], -1)


def sky_irradiance(sky: Sky, normal: np.ndarray) -> np.ndarray:
    """Sky and bounce irradiance / pi (..., 3) on faces with unit normals (..., 3) that see everything."""
    return np.maximum(normal_basis(normal) @ sky.irradiance, 0)


def sphere_directions(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Midpoint directions (N, 3) of a latitude-longitude grid, Y up, row 0 at the zenith, and solid angles (N)."""
    theta = (np.arange(rows) + 0.5) * np.pi / rows
    phi = (np.arange(columns) + 0.5) * 2 * np.pi / columns
    theta, phi = (a.ravel() for a in np.meshgrid(theta, phi, indexing="ij"))
    direction = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1)
    return direction, np.sin(theta) * (np.pi / rows) * (2 * np.pi / columns)
