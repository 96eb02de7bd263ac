"""Multichannel EXR files: write, read, and the names of our channels.

In: named channels (H, W) of float32 or float16, string attributes. Out: one single-part scan-line file, ZIP (lossless: DWA would quantise
`...00.R` of a cryptomatte), published by rename. Reading gives the same arrays back, bit for bit. Colour channels of a file share
one space, stated by `chromaticities`; all other channels are data.

Traps of the OpenEXR binding that this file hides: `File(header, channels)` replaces the caller's arrays by its own objects, wants
contiguous arrays, and on reading merges X.R, X.G, X.B into one array unless told not to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import OpenEXR

from shot.frames import DamagedFile

CHROMATICITIES = {  # red, green, blue, white: x, y
    "lin_rec709": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    "acescg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
}
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def exr_write(path: Path, channels: Mapping[str, np.ndarray], attributes: Mapping[str, str], colourspace: str = "lin_rec709") -> None:
    """Publish a file of named channels. Raises ValueError for a channel that is neither float32 nor float16, or of another size.

    OSError where the system refuses, a full disk for one."""
    shapes = {array.shape for array in channels.values()}
    if len(shapes) != 1 or any(array.dtype not in (np.float16, np.float32) for array in channels.values()):
        raise ValueError(f"{path}: channels of shapes {shapes}, types {({str(a.dtype) for a in channels.values()})}")
    header = {
        **attributes,
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "chromaticities": CHROMATICITIES[colourspace],
    }
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.exr")
    try:
        with OpenEXR.File(header, {name: np.ascontiguousarray(array) for name, array in channels.items()}) as handle:
            try:
                handle.write(str(temporary))
            except RuntimeError as error:  # the binding keeps of errno only its text
                number = next((n for n in errno.errorcode if os.strerror(n) in str(error)), errno.EIO)
                raise OSError(number, os.strerror(number), str(path)) from error
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def exr_read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Channels (H, W) and string attributes. Raises DamagedFile."""
    try:
        with OpenEXR.File(str(path), separate_channels=True) as handle:
            channels = {name: np.array(channel.pixels) for name, channel in handle.channels().items()}
            attributes = {name: value for name, value in handle.header().items() if isinstance(value, str)}
    except Exception as error:  # the binding raises RuntimeError, OSError and its own
        raise DamagedFile(f"{path}: {error}") from error
    return channels, attributes


def layer(name: str, image: np.ndarray, parts: str) -> dict[str, np.ndarray]:
    """Channels `name.part` of an image (H, W, len(parts)) or, for one part, (H, W)."""
    image = image[..., None] if image.ndim == 2 else image
    return {f"{name}.{part}" if name else part: image[..., k] for k, part in enumerate(parts)}


def colour_matrix(source: str, target: str) -> np.ndarray:
    """(3, 3) f64 from one linear space to another, white adapted by Bradford's method (as OpenColorIO and ACES do)."""
    a, b = CHROMATICITIES[source], CHROMATICITIES[target]
    response = [BRADFORD @ xyz(*c[6:8]) for c in (a, b)]
    adapt = np.linalg.inv(BRADFORD) @ np.diag(response[1] / response[0]) @ BRADFORD
    return np.linalg.inv(primaries(b)) @ adapt @ primaries(a)


def primaries(chromaticities: tuple[float, ...]) -> np.ndarray:
    """(3, 3) f64 RGB to XYZ such that (1, 1, 1) is the white."""
    columns = np.stack([xyz(*chromaticities[k : k + 2]) for k in (0, 2, 4)], axis=1)
    return columns * np.linalg.solve(columns, xyz(*chromaticities[6:8]))


def xyz(x: float, y: float) -> np.ndarray:
    """XYZ of luminance 1."""
    return np.array([x / y, 1.0, (1 - x - y) / y])
