"""A rough collapse now: the same shot with coarser pieces, coarser air and a quarter of the pixels.

In: a loaded shot. Out: another one, and its frames (every second). What decides the fall (members, materials, events, camera,
light, seed) is kept; what only refines it is thinned, each by a stated factor of the shot's own value.
Values that the user overrides on the command line are left as asked.
"""

from __future__ import annotations

from shot.load import Loaded
from shot.params import Shot

PIECE, CELL, PIXELS, STEP = 2.5, 2.0, 0.5, 2  # factors: piece size, air cell, each image side; frame step
SWEEPS = 0.7  # factor on contact sweeps: at a half, energy that fewer sweeps leave open was three times that of the full run


def preview_of(loaded: Loaded) -> tuple[Loaded, list[int]]:
    """The preview of a shot and the frames it delivers."""
    shot = loaded.shot
    asked = {override.partition("=")[0].strip() for override in loaded.overrides}
    wanted = {
        "fracture.piece": shot.fracture.piece * PIECE,
        "fracture.pieces_min": max(1, shot.fracture.pieces_min // 6),
        "sim.contact_iterations": max(1, round(SWEEPS * shot.sim.contact_iterations)),
        "dust.cell": min(8.0, shot.dust.cell * CELL),
        "dust.upsample": min(2, shot.dust.upsample),
        "dust.upsampler": "advect",  # the network knows a factor of 4 only
        "camera.width": max(16, round(shot.camera.width * PIXELS)),
        "camera.height": max(16, round(shot.camera.height * PIXELS)),
        "look.dust_steps": max(4, shot.look.dust_steps // 2),
        "look.shadow_size": max(256, shot.look.shadow_size // 2),
        "look.ambient_cells": max(8, shot.look.ambient_cells // 2),
        "debris.limit": shot.debris.limit // 4,
        "refine.backend": "none",
        "output.exr": False,
    }
    values = shot.model_dump()
    for key, value in wanted.items():
        if key not in asked:
            table, _, name = key.partition(".")
            values[table][name] = value
    return Loaded(Shot.model_validate(values), loaded.path, loaded.overrides), list(shot.frame_range)[::STEP]
