"""Guides of one frame to the channels that the refiner's network sees.

In: the picture to be refined, one frame of `Guides` and its static part. Out: (C, H, W) float32, channels in the order of
CHANNELS; normalising to mean 0 and deviation 1 is part of the network. Lengths enter as the footprint of a pixel, so that
the same surface at twice the resolution looks to the network like one at half the distance. Fragment ids enter as a hash
whose salt changes with every training crop: neighbours can be told apart, no id can be learnt by heart. Light and albedo
enter in the same log code, so their difference is illumination. Dust has no channel: the network refines solids, and its
references hold no dust.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neural.colour import decode_display, encode
from shot.errors import ShotError
from shot.hashing import uniform
from shot.results import Guides

CHANNELS = (
    "lit_r", "lit_g", "lit_b", "albedo_r", "albedo_g", "albedo_b", "normal_x", "normal_y", "normal_z",
    "footprint", "nearness", "edge", "interior", "age", "id_a", "id_b", "sun", "sun_cosine", "occlusion", "coverage", "motion",
)
FOOTPRINT_SKY = 4.0  # [m] stands for infinity and for the far ground
AGE_SCALE = 2.0  # [s] over which a fresh crack counts as fresh


@dataclass(frozen=True)
class Lens:
    """What a frame's camera and light add to its arrays."""

    view: np.ndarray  # (4, 4) world to camera
    pixel: float  # width of a pixel at 1 m depth [m]
    sun: np.ndarray  # (3) unit, towards the sun, world
    exposure: float  # one factor for the whole shot


def lens_of(static: Mapping[str, np.ndarray], index: int, height: int) -> Lens:
    """Lens of the frame `index` frames after the shot's first, from the guides' static part."""
    pixel = 2.0 / (float(static["projection"][1, 1]) * height)
    return Lens(static["view"][index], pixel, static["sun"], float(static["exposure"]))


def guides_static(guides: Guides) -> Mapping[str, np.ndarray]:
    """Static part. Raises ShotError where the guides are of another version than this code reads."""
    static = guides.folder.get("static")
    if int(static["version"]) != Guides.VERSION:
        raise ShotError(f"{guides.folder.path}: guides of version {int(static['version'])}, want {Guides.VERSION}: draw them again")
    return static


def guide_channels(picture: np.ndarray, arrays: Mapping[str, np.ndarray], lens: Lens, salt: int = 0) -> np.ndarray:
    """(C, H, W) float32 of one frame; picture (H, W, 3) is what is to be refined: solids under their relief, times the exposure."""
    normal = arrays["normal"].astype(np.float32)
    toward = normal @ lens.view[:3, :3].T.astype(np.float32)
    footprint = np.where(np.isfinite(arrays["depth"]), arrays["depth"] * np.float32(lens.pixel), FOOTPRINT_SKY)
    footprint = np.clip(footprint, 1e-4, FOOTPRINT_SKY).astype(np.float32)
    ids = arrays["id"]
    table = np.unique(ids)
    row = np.searchsorted(table, ids)
    motion = np.hypot(*np.moveaxis(arrays["motion_backward"].astype(np.float32), -1, 0))
    planes = [
        *np.moveaxis(encode(picture), -1, 0),
        *np.moveaxis(encode(decode_display(arrays["albedo"].astype(np.float32) / 255)), -1, 0),
        *np.moveaxis(toward, -1, 0),
        np.log2(footprint),
        0.05 / (0.05 + footprint),
        arrays["edge"],
        arrays["interior"],
        np.exp(-arrays["age"].astype(np.float32) / AGE_SCALE),
        *(np.where(ids > 0, (2 * uniform(salt, "refine/id", table, lane) - 1)[row], 0) for lane in (0, 1)),
        arrays["sun"],
        np.maximum(normal @ np.asarray(lens.sun, np.float32), 0),
        arrays["occlusion"],
        arrays["alpha"],
        np.log1p(np.where(np.isfinite(motion), motion, 0)),
    ]
    return np.stack([np.asarray(plane, np.float32) for plane in planes])


def padded(planes: np.ndarray, multiple: int = 16) -> np.ndarray:
    """(..., H, W) grown on the right and below to a multiple by repeating the border."""
    height, width = planes.shape[-2:]
    grow = [(0, 0)] * (planes.ndim - 2) + [(0, -height % multiple), (0, -width % multiple)]
    return np.pad(planes, grow, mode="edge")
