"""Scene-linear light to the log code that networks see, and back without loss.

In: linear Rec.709 values, any shape, >= 0. Out: codes in about -1..1. The curve is y = 2 log(1 + 64 x) / log(1 + 64 M) - 1
with M = 1000: 0 -> -1, 0.18 -> -0.543, 1 -> -0.246, 10 -> 0.168, 1000 -> 1, so highlights stay far inside the range and
nothing is clipped. Computed in float64 the way back is exact to 5e-7 relative in float32. Not a display transform: see
`display` for the one that metrics and 8-bit networks use.
"""

from __future__ import annotations

import numpy as np

KNEE = 64.0
BRIGHTEST = 1000.0
CODE_STEP = 2.0 / np.log1p(KNEE * BRIGHTEST)  # code units per e-fold of bright light


def encode(linear: np.ndarray) -> np.ndarray:
    """Codes (float32) of scene-linear values; negative light counts as none."""
    x = np.maximum(np.asarray(linear, np.float64), 0.0)
    return (CODE_STEP * np.log1p(KNEE * x) - 1.0).astype(np.float32)


def decode(code: np.ndarray) -> np.ndarray:
    """Scene-linear values (float32) of codes; the exact inverse of `encode`, and never below zero."""
    y = np.asarray(code, np.float64)
    return np.maximum(np.expm1((y + 1.0) / CODE_STEP) / KNEE, 0.0).astype(np.float32)


def shift(linear: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """decode(encode(linear) + residual) with a zero residual that gives back `linear` bit for bit.

    log1p(64 x) + r/step: the new value is exp(r/step) x + expm1(r/step) / 64."""
    gain = np.asarray(residual, np.float64) / CODE_STEP
    x = np.maximum(np.asarray(linear, np.float64), 0.0)
    return np.maximum(x * np.exp(gain) + np.expm1(gain) / KNEE, 0.0).astype(np.float32)


def display(linear: np.ndarray) -> np.ndarray:
    """sRGB-coded 0..1 picture of scene-linear light: what an eye or an 8-bit network sees.

    Shoulder 1 - exp(-x) above 0.7, sRGB curve below; the same for every frame: no exposure is measured from the picture."""
    x = np.maximum(np.asarray(linear, np.float64), 0.0)
    x = np.where(x > 0.7, 0.7 + 0.3 * -np.expm1(-(x - 0.7) / 0.3), x)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(np.maximum(x, 1e-12), 1 / 2.4) - 0.055).astype(np.float32)


def decode_display(code: np.ndarray) -> np.ndarray:
    """Linear light 0..1 (before the shoulder) of sRGB codes: the inverse of the curve part of `display`."""
    y = np.asarray(code, np.float64)
    return np.where(y <= 0.04045, y / 12.92, ((y + 0.055) / 1.055) ** 2.4)


def luminance(linear: np.ndarray) -> np.ndarray:
    """Rec.709 luminance of (..., 3)."""
    return np.asarray(linear) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
