"""The camera and the sky: pixels, rays, the sun's direction, light that adds up."""

from __future__ import annotations

import numpy as np
import pytest

from render.camera import camera_pose, pixel_of, ray_of, sun_direction, view_matrix
from render.sky import normal_basis, sky_irradiance, sky_of, sky_radiance, sphere_directions
from shot.params import Camera, Light, Shot


@pytest.fixture
def shot() -> Shot:
    """A moving camera."""
    return Shot(camera=Camera(position=(3, 4, 10), target=(-1, 2, 0), move=(0.5, 0.1, -0.2), width=320, height=180, fov=50))


def test_ray_meets_its_pixel(shot: Shot):
    """A point on the ray of a pixel falls on that pixel, and the ray's scale is depth along the view axis."""
    pose = camera_pose(shot, 1013)
    pixel = np.array([[0.5, 0.5], [160.0, 90.0], [319.25, 12.75]])
    where, depth = pixel_of(pose, pose.eye + ray_of(pose, pixel) * np.array([[2.0], [30.0], [700.0]]))
    assert np.allclose(where, pixel, atol=1e-9)
    assert np.allclose(depth, [2, 30, 700], rtol=1e-12)


def test_pixel_follows_the_matrices(shot: Shot):
    """pixel_of is x = (1 + ndc) W / 2, y = (1 - ndc) H / 2 of projection times view, as Guides' static part promises."""
    pose = camera_pose(shot, 1005)
    point = np.array([0.3, 1.7, -2.0, 1.0])
    clip = pose.projection @ pose.view @ point
    ndc = clip[:2] / clip[3]
    assert np.allclose(pixel_of(pose, point[:3])[0], [(1 + ndc[0]) * 160, (1 - ndc[1]) * 90], atol=1e-9)


def test_vertical_field_of_view(shot: Shot):
    """A point half the field of view above the axis falls on the top row."""
    pose = camera_pose(shot, 1001)
    up = pose.eye - pose.turn[2] * 10 + pose.turn[1] * 10 * np.tan(np.radians(25))
    assert np.allclose(pixel_of(pose, up)[0], [160, 0], atol=1e-9)


def test_camera_moves_by_seconds(shot: Shot):
    """After 24 frames at 24 frames a second the eye has moved by `move`."""
    assert np.allclose(camera_pose(shot, 1025).eye - camera_pose(shot, 1001).eye, [0.5, 0.1, -0.2])


def test_view_straight_down_and_nowhere():
    """Looking straight down works; looking at oneself is an error."""
    view = view_matrix(np.array([0.0, 5, 0]), np.zeros(3))
    assert np.allclose(view[:3, :3] @ view[:3, :3].T, np.eye(3))
    with pytest.raises(ValueError, match="no direction"):
        view_matrix(np.zeros(3), np.zeros(3))


def test_sun_turns_clockwise_from_north():
    """Azimuth 0 is -Z, 90 is +X; elevation lifts."""
    assert np.allclose(sun_direction(Light(azimuth=0, elevation=1)), [0, np.sin(np.radians(1)), -np.cos(np.radians(1))])
    assert np.allclose(sun_direction(Light(azimuth=90, elevation=45)), [np.sqrt(0.5), np.sqrt(0.5), 0])


def test_sky_light_adds_up():
    """E(up) / pi is light.sky, and the quadratic form meets the cosine integral of the radiance within 1 % of it."""
    sky = sky_of(Light())
    assert np.allclose(sky_irradiance(sky, np.array([0.0, 1, 0])), Light().sky, rtol=0.01)
    direction, weight = sphere_directions(128, 256)
    assert np.isclose(weight.sum(), 4 * np.pi, rtol=1e-3)
    normal, _ = sphere_directions(9, 14)
    want = (np.maximum(normal @ direction.T, 0) * weight) @ sky_radiance(sky, direction) / np.pi
    assert np.abs(sky_irradiance(sky, normal) - want).max() < 0.01 * max(Light().sky)
    assert normal_basis(normal).shape == (126, 10)


def test_exposure_brings_white_to_one():
    """exposure * luminance of a white horizontal face in sun and sky is 1."""
    light = Light()
    sky = sky_of(light)
    white = np.asarray(light.sun) * np.sin(np.radians(light.elevation)) + light.sky
    assert np.isclose(sky.exposure * (white @ [0.2126, 0.7152, 0.0722]), 1, rtol=1e-6)
