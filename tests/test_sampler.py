"""The flow sampler against a Gaussian whose denoiser is known exactly, and the colour codes that it works on."""

from __future__ import annotations

import numpy as np
import pytest

from neural.colour import decode, decode_display, display, encode, shift
from neural.sampler import flow_sample, times_uniform

MEAN, DEVIATION, SCALE = 0.7, 0.4, 1.3


def exact(z: np.ndarray, t: float) -> np.ndarray:
    """E[x | z] of z = (1 - t) x + t s n with x ~ N(m, d^2): m + (1 - t) d^2 (z - (1 - t) m) / ((1 - t)^2 d^2 + t^2 s^2)."""
    gain = (1 - t) * DEVIATION**2 / ((1 - t) ** 2 * DEVIATION**2 + t**2 * SCALE**2)
    return MEAN + gain * (z - (1 - t) * MEAN)


def test_one_step_is_the_mean():
    """At t = 1 the state holds nothing of x: one step returns the conditional mean for any noise."""
    noise = np.random.default_rng(0).standard_normal(1000)
    assert np.allclose(flow_sample(exact, noise, SCALE, times_uniform(1)), MEAN, atol=1e-6)


def test_many_steps_sample_the_gaussian():
    """The exact flow maps n to m + d n; Euler's deviation converges to d with first order."""
    noise = np.random.default_rng(1).standard_normal(200_000)
    errors = []
    for steps in (50, 100, 200):
        sample = flow_sample(exact, noise, SCALE, times_uniform(steps))
        assert abs(sample.mean() - MEAN) < 3 * DEVIATION / np.sqrt(len(noise))
        errors.append(abs(sample.std() / noise.std() - DEVIATION))
    assert errors[2] < 0.01 * DEVIATION
    assert 1.6 < errors[0] / errors[1] < 2.4 and 1.6 < errors[1] / errors[2] < 2.4
    assert np.corrcoef(sample, noise)[0, 1] > 0.999999


def test_few_steps_lie_between():
    """Two and four steps give part of the deviation: more steps, more texture, never more than there is."""
    noise = np.random.default_rng(2).standard_normal(20_000)
    spread = [flow_sample(exact, noise, SCALE, times_uniform(k)).std() for k in (1, 2, 4, 8)]
    assert spread == sorted(spread) and spread[1] > 0.2 * DEVIATION and spread[-1] < DEVIATION


def test_times():
    """1 first, evenly down, the last step goes to 0."""
    assert times_uniform(4) == [1.0, 0.75, 0.5, 0.25]
    with pytest.raises(ValueError):
        flow_sample(exact, np.zeros(3), 1.0, [])


def test_codes_go_back_exactly():
    """decode(encode(x)) = x to 5e-7 of x + knee in float32, from 1e-4 to 1000; the codes of the research note."""
    x = np.geomspace(1e-4, 1000, 100_000).astype(np.float32)
    assert (np.abs(decode(encode(x)) - x) / (x + 1 / 64)).max() < 5e-7
    y = encode(np.array([0, 0.18, 1, 10, 1000.0]))
    assert np.allclose(y, [-1, -0.543, -0.246, 0.168, 1], atol=1e-3)


def test_shift_is_exact_where_nothing_shifts():
    """A zero residual gives the raster back bit for bit; any other equals decode(encode(x) + r)."""
    x = np.geomspace(1e-3, 900, 10_000).astype(np.float32)
    assert np.array_equal(shift(x, np.zeros_like(x)), x)
    for r in (-0.2, 0.01, 0.15):
        assert np.allclose(shift(x, np.full_like(x, r)), decode(encode(x) + np.float32(r)), rtol=2e-5, atol=1e-5)


def test_display_curve():
    """Monotonic, 1 at infinity, plain sRGB below the shoulder and back."""
    x = np.geomspace(1e-4, 100, 1000)
    y = display(x)
    assert (np.diff(y) >= 0).all() and y.max() <= 1 and abs(display(np.array(0.18)) - 0.4614) < 1e-3
    assert np.allclose(decode_display(display(x[x < 0.7])), x[x < 0.7], rtol=1e-4)
