"""Surface noise: white in each picture, stuck to surfaces between pictures, the same for whoever asks."""

from __future__ import annotations

import numpy as np
import pytest
from box_guides import BOXES, GROUND_ID, Box, Lens, box_frame

WIDTH, HEIGHT = 320, 192
ZOOM = Lens(move=(0.0, 0.0, -0.5))
PAN = Lens(move=(0.11, 0.02, 0.0))


@pytest.fixture(scope="module")
def frames() -> dict[str, list[dict[str, np.ndarray]]]:
    """Two frames of rotating, falling boxes under a panning and under a zooming camera."""
    return {name: [box_frame(1001 + k, WIDTH, HEIGHT, lens=lens) for k in range(2)] for name, lens in (("pan", PAN), ("zoom", ZOOM))}


def of(arrays: dict[str, np.ndarray], seed: int = 7) -> np.ndarray:
    """Surface noise of a frame."""
    from neural.noise import surface_noise

    return surface_noise(arrays["rest"], arrays["id"], seed)


def along_motion(noise: list[np.ndarray], frames: list[dict[str, np.ndarray]], label: int) -> tuple[float, float]:
    """Correlation of a piece's noise with that of the nearest pixel it came from, and the mean overlap of the two pixel squares."""
    height, width = frames[1]["id"].shape
    ys, xs = np.mgrid[:height, :width]
    sx, sy = xs - frames[1]["motion_backward"][..., 0], ys - frames[1]["motion_backward"][..., 1]
    ix, iy = np.round(sx).astype(int), np.round(sy).astype(int)
    inside = (ix >= 0) & (iy >= 0) & (ix < width) & (iy < height)
    ix, iy = ix.clip(0, width - 1), iy.clip(0, height - 1)
    ok = inside & (frames[1]["id"] == label) & (frames[0]["id"][iy, ix] == label)
    overlap = (1 - np.abs(sx - ix)) * (1 - np.abs(sy - iy))
    return float(np.corrcoef(noise[1][:, ok].ravel(), noise[0][:, iy[ok], ix[ok]].ravel())[0, 1]), float(overlap[ok].mean())


def neighbour(noise: np.ndarray, dy: int, dx: int) -> float:
    """Correlation of pixels dy, dx apart."""
    h, w = noise.shape[1:]
    return float(np.corrcoef(noise[:, dy:, dx:].ravel(), noise[:, : h - dy, : w - dx].ravel())[0, 1])


@pytest.mark.parametrize("camera", ["pan", "zoom"])
def test_white_and_of_unit_variance(camera, frames, taichi):
    """Mean 0, deviation 1 within 2 %, a Gaussian's kurtosis, neighbours and channels uncorrelated below 0.02 (one sigma is 0.0023)."""
    for arrays in frames[camera]:
        noise = of(arrays)
        assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
        assert abs((noise**4).mean() / noise.var() ** 2 - 3) < 0.05
        assert max(abs(neighbour(noise, dy, dx)) for dy, dx in ((0, 1), (1, 0), (1, 1), (2, 0), (0, 2))) < 0.02
        assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("camera", ["pan", "zoom"])
@pytest.mark.parametrize("label", [1, 2, 3, GROUND_ID])
def test_sticks_to_surfaces(camera, label, frames, taichi):
    """Correlation along the motion reaches 0.9 of its bound, the overlap of the pixel squares before and after."""
    correlation, bound = along_motion([of(a) for a in frames[camera]], frames[camera], label)
    assert bound > 0.4 and correlation > 0.9 * bound


def test_screen_fixed_noise_does_not(frames, taichi):
    """Control: noise fixed to the screen fails the same measure, so the measure sees sliding."""
    from neural.noise import fixed_noise

    correlation, bound = along_motion([fixed_noise(HEIGHT, WIDTH, 7)] * 2, frames["pan"], 1)
    assert correlation < 0.5 * bound


def test_moving_pixels_change_on_the_screen(frames, taichi):
    """A piece that moves by more than a pixel carries its noise away: pixel for pixel the two frames are uncorrelated."""
    pair = frames["zoom"]
    fast = (pair[1]["id"] == 1) & (pair[0]["id"] == 1) & (np.hypot(*np.moveaxis(pair[1]["motion_backward"], -1, 0)) > 2)
    a, b = of(pair[0]), of(pair[1])
    assert fast.sum() > 500 and abs(np.corrcoef(a[:, fast].ravel(), b[:, fast].ravel())[0, 1]) < 0.1


def test_resting_surface_keeps_its_noise(taichi):
    """Nothing moves: the two frames are equal bit for bit on every piece."""
    still = Lens(move=(0.0, 0.0, 0.0))
    a, b = (box_frame(1001 + k, 96, 64, boxes=BOXES[:1], lens=still) for k in range(2))
    assert np.array_equal(of(a), of(b))


def test_a_frame_is_computed_alone(frames, taichi):
    """No state: the same frame after another one gives the same bits; another seed gives other noise."""
    first, second = frames["pan"]
    alone = of(second)
    of(first)
    assert np.array_equal(of(second), alone)
    assert abs(np.corrcoef(of(second, 8).ravel(), alone.ravel())[0, 1]) < 0.02


def test_levels_fade_without_a_pop(taichi):
    """Nearing a wall by 2 % a frame, through a whole octave, never drops the correlation along the motion: levels fade over."""
    wall = (Box((6.0, 6.0, 1.0), (0.0, 4.0, 0.0)),)
    for step in range(36):
        near, distance = 16.0 * 0.98**step, 16.0 * 0.98 ** (step + 1)
        lens = Lens(position=(0.3, 4.0, near), move=(0.0, 0.0, distance - near), down=0.0)
        pair = [box_frame(1001 + k, WIDTH // 2, HEIGHT // 2, boxes=wall, lens=lens, ground=False) for k in range(2)]
        correlation, bound = along_motion([of(a) for a in pair], pair, 1)
        assert correlation > 0.75 * bound, step


def test_fixed_and_fresh(taichi):
    """Fixed noise is the same in every frame, fresh noise never; both are unit Gaussians."""
    from neural.noise import fixed_noise, fresh_noise

    assert np.array_equal(fixed_noise(64, 96, 3), fixed_noise(64, 96, 3))
    a, b = fresh_noise(64, 96, 3, 1001), fresh_noise(64, 96, 3, 1002)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03 and abs(a.std() - 1) < 0.02
