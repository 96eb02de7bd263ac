"""Deterministic few-step sampling of a rectified flow whose network predicts the clean signal.

In: a denoiser D(z, t) -> E[x | z], unit noise n, the noise scale s. Out: one sample x. The path is z_t = (1 - t) x + t s n;
its velocity is (z - x) / t (Liu et al. 2022, "Flow straight and fast", eq. 1), so the Euler step from t to u with x
replaced by D is z_u = (u / t) z_t + (1 - u / t) D(z_t, t), the same update as DDIM. The first step starts at t = 1, where D
is the conditional mean: one step returns exactly that mean. No random numbers are drawn here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Denoise = Callable[[np.ndarray, float], np.ndarray]


def flow_sample(denoise: Denoise, noise: np.ndarray, scale: float, times: Sequence[float]) -> np.ndarray:
    """Run the Euler steps at `times`, falling and starting at 1; after the last one the state is the denoiser's answer."""
    z = (scale * noise).astype(np.float32)
    x = z
    for t, u in zip(times, [*times[1:], 0.0], strict=True):
        x = denoise(z, t)
        z = np.float32(u / t) * z + np.float32(1.0 - u / t) * x
    return x


def times_uniform(steps: int) -> list[float]:
    """1, 1 - 1/steps, ..., 1/steps."""
    return [1.0 - k / steps for k in range(steps)]
