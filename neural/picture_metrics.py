"""How near a picture is to a reference, and how steady a sequence is.

In: scene-linear pictures (H, W, 3) of one exposure. Out: single numbers. PSNR and SSIM (Wang et al. 2004) are of
display-coded pictures; FLIP (Andersson et al. 2020) is the package flip-evaluator, a development extra; texture distance is
the sliced Wasserstein distance of 5x5 high-pass patches (after Karras et al. 2018): zero when the two pictures have the
same texture wherever it lies; warp error (Lai et al. 2018) and temporal difference use exact motion and validity. No one of
them may be read alone: a blurred sequence is steady, a noisy one has texture.
"""

from __future__ import annotations

import numpy as np

from neural.colour import display, encode
from shot.hashing import normal


def psnr(picture: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal to noise of display-coded pictures [dB]."""
    return float(-10 * np.log10(np.mean(np.square(display(picture).astype(float) - display(reference))) + 1e-20))


def ssim(picture: np.ndarray, reference: np.ndarray) -> float:
    """Mean structural similarity of display-coded luma, Gaussian window of 1.5 px."""
    from scipy.ndimage import gaussian_filter

    x, y = (display(p).astype(float) @ [0.2126, 0.7152, 0.0722] for p in (picture, reference))
    mx, my = gaussian_filter(x, 1.5), gaussian_filter(y, 1.5)
    xx, yy, xy = gaussian_filter(x * x, 1.5) - mx * mx, gaussian_filter(y * y, 1.5) - my * my, gaussian_filter(x * y, 1.5) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return float(np.mean((2 * mx * my + c1) * (2 * xy + c2) / ((mx * mx + my * my + c1) * (xx + yy + c2))))


def flip(picture: np.ndarray, reference: np.ndarray) -> float:
    """Mean LDR-FLIP at 67 pixels per degree. Needs flip-evaluator."""
    import flip_evaluator

    return float(flip_evaluator.evaluate(display(reference), display(picture), "LDR", inputsRGB=True, applyMagma=False)[1])


def texture_distance(picture: np.ndarray, reference: np.ndarray, mask: np.ndarray, patches: int = 8192, directions: int = 64) -> float:
    """Sliced Wasserstein-1 distance of 5x5 patches of the log code, mean of each patch removed, where `mask` (H, W) holds."""
    y, x = np.nonzero(mask[2:-2, 2:-2])
    if len(y) == 0:
        return 0.0
    pick = (np.arange(patches) * 7919) % len(y)
    sets = []
    for image in (picture, reference):
        code = encode(image) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
        block = np.stack([code[y[pick] + dy, x[pick] + dx] for dy in range(5) for dx in range(5)], 1)
        sets.append(block - block.mean(1, keepdims=True))
    axes = normal(0, "metrics/slices", np.arange(25 * directions)).reshape(25, directions)
    axes /= np.linalg.norm(axes, axis=0)
    a, b = (np.sort(s @ axes, axis=0) for s in sets)
    return float(np.abs(a - b).mean())


def warp_error(now: np.ndarray, carried: np.ndarray, valid: np.ndarray) -> float:
    """Mean squared difference of display-coded pictures: this frame and the one before carried along the motion, valid pixels only."""
    return float(np.mean(np.square(display(now) - display(carried))[valid > 0]))


def temporal_difference(
    now: np.ndarray, carried: np.ndarray, reference: np.ndarray, reference_carried: np.ndarray, valid: np.ndarray
) -> float:
    """Mean |change of the picture - change of the reference| along the motion: punishes flicker and over-smoothing alike."""
    change, wanted = display(now) - display(carried), display(reference) - display(reference_carried)
    return float(np.mean(np.abs(change - wanted)[valid > 0]))


def colour_fit(picture: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The (3, 4) affine map of log codes that brings `picture` nearest to `reference`: the best a colour grade told the answer could do."""
    x, y = encode(picture).reshape(-1, 3), encode(reference).reshape(-1, 3)
    return np.linalg.lstsq(np.concatenate([x, np.ones((len(x), 1), np.float32)], 1), y, rcond=None)[0].T
