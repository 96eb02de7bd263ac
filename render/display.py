"""Scene-linear light to display codes: exposure, view, sRGB.

In: linear Rec.709 (H, W, 3), a gain, the name of a view. Out: 8-bit sRGB.
    srgb    clipped at 1, sRGB curve: what a data check wants
    filmic  Lottes' curve per channel (GDC 2016): y = x^a / (x^(a d) b + c) with a = CONTRAST, d = SHOULDER, and b, c such that GREY
            stays where it is and BRIGHTEST becomes 1; highlights roll off, blacks deepen, bright colours lose saturation as film does
    aces    the ACES 2.0 SDR view for Rec.709 of OpenColorIO's built-in config, named in full: a newer library cannot change it unseen
All are fixed curves: nothing is measured from the picture, so a shot cannot pump.
"""

from __future__ import annotations

import importlib
import io
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, PngImagePlugin

from shot.frames import file_publish

View = Literal["filmic", "srgb", "aces"]
CONTRAST, SHOULDER, GREY, BRIGHTEST = 1.45, 0.98, 0.18, 6.0
OCIO_CONFIG = "ocio://cg-config-v4.0.0_aces-v2.0_ocio-v2.5"
OCIO_SOURCE, OCIO_DISPLAY, OCIO_VIEW = "Linear Rec.709 (sRGB)", "sRGB - Display", "ACES 2.0 - SDR 100 nits (Rec.709)"


def displayed(linear: np.ndarray, view: View, gain: float) -> np.ndarray:
    """(H, W, 3) u8 of scene-linear Rec.709."""
    x = np.maximum(np.asarray(linear, np.float32) * np.float32(gain), 0.0)
    code = aces(x) if view == "aces" else srgb_coded(filmic(x) if view == "filmic" else np.minimum(x, 1.0))
    return np.floor(np.clip(code, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def filmic(x: np.ndarray) -> np.ndarray:
    """Lottes' curve: 0 -> 0, GREY -> GREY, BRIGHTEST and above -> 1."""
    a, d = CONTRAST, SHOULDER
    grey, top = GREY**a, BRIGHTEST**a
    grey_d, top_d = GREY ** (a * d), BRIGHTEST ** (a * d)
    b = (top * GREY - grey) / ((top_d - grey_d) * GREY)
    c = (top_d * grey - top * grey_d * GREY) / ((top_d - grey_d) * GREY)
    power = np.minimum(x, BRIGHTEST) ** np.float32(a)
    return power / (np.minimum(x, BRIGHTEST) ** np.float32(a * d) * np.float32(b) + np.float32(c))


def srgb_coded(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-12) ** np.float32(1 / 2.4) - 0.055)


def aces(linear: np.ndarray) -> np.ndarray:
    """Display codes 0..1 through OpenColorIO."""
    image = np.ascontiguousarray(linear, np.float32)
    aces_processor().applyRGB(image)
    return image


@lru_cache(maxsize=1)
def aces_processor() -> Any:
    """The view's CPU processor; opening the config takes 20 ms."""
    ocio: Any = importlib.import_module("PyOpenColorIO")  # its stubs declare nothing
    config = ocio.Config.CreateFromFile(OCIO_CONFIG)
    view = ocio.DisplayViewTransform(src=OCIO_SOURCE, display=OCIO_DISPLAY, view=OCIO_VIEW)
    return config.getProcessor(view).getDefaultCPUProcessor()


def png_write(path: Path, image: np.ndarray, text: dict[str, str]) -> None:
    """Publish an 8-bit PNG with text entries."""
    info = PngImagePlugin.PngInfo()
    info.add(b"sRGB", b"\x00")
    for key, value in sorted(text.items()):
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=info, compress_level=4)
    file_publish(path, buffer.getvalue())
