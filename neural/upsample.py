"""Stage `upsample`: coarse dust to fine dust, each coarse cell's mass kept exactly.

In: coarse frames of mass and velocity. Out: fine frames, cropped to the box that holds dust. `advect` carries the fine state and
projects it (advect.py); `network` lets a small network reshape the carried state inside every coarse cell (dust_network.py).

The state runs from the first frame of the shot, so a frame never depends on which frames were asked for; a chunk that starts late
carries silently through the frames before it. Restarting every 24 frames was tried: what dust was shed with lives on in the carried
state, and a state begun from coarse dust still had a quarter less structure 20 frames later, which showed as softening every second.
Every CHECKPOINT frames the rest of the state is kept beside the frame, so a killed or extended run goes on there, bit by bit.

Not handled: walls inside a coarse cell; a coarse run whose dust grid moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neural.advect import FineState, active_cells, fine_carry, fine_start, noise_tile
from neural.dust_network import network_load
from shot.errors import MissingResource
from shot.frames import FrameFolder, FrameWriter
from shot.params import Shot
from shot.results import Dust, Progress

CHECKPOINT = 8  # frames


def upsample(shot: Shot, coarse: Dust, folder: FrameFolder, frames: Sequence[int], progress: Progress, weights: Path | None) -> Dust:
    """Fine dust for `frames`, shot.dust.upsample cells per coarse cell and axis. Reads dust.upsample, upsampler and detail, seed,
    first, fps.

    `weights` (dust_upsampler.onnx) is needed, and read, only for dust.upsampler = "network". Raises MissingResource without it."""
    grid, r, step = coarse.grid, shot.dust.upsample, 1.0 / (shot.fps * float(coarse.grid["cell"]))
    folder.put("grid", {"origin": grid["origin"], "cell": grid["cell"] / r, "shape": (grid["shape"] * r).astype(np.int32),
                        "settle": grid["settle"]})
    network = None
    if shot.dust.upsampler == "network":
        if weights is None:
            raise MissingResource('dust.upsampler = "network" needs assets/weights/dust_upsampler.onnx; "advect" needs no weights')
        network = network_load(weights, r)
    missing = [frame for frame in sorted(frames) if not folder.has_frame(frame)]
    for frame in sorted(set(frames) - set(missing)):
        progress(frame)
    if missing:
        noise = noise_tile(shot.seed)
        state = state_resume(folder, range(shot.first, missing[0]), grid["shape"] * r)
        before = coarse.frame(state.frame if state else shot.first)
        state = state or fine_start(before["mass"], r, shot.first)
        with FrameWriter(folder, progress) as writer:
            if state.frame in missing:
                frame_put(folder, writer, state, before["mass"], r, shot.first)
            while state.frame < missing[-1]:
                after = coarse.frame(state.frame + 1)
                velocity = 0.5 * (before["velocity"] + after["velocity"])
                state, carried = fine_carry(state, after["mass"], velocity, r, step, float(grid["settle"]), shot.dust.detail, noise,
                                            shot.first, shot.seed)
                if network is not None:
                    state.mass = network.reshape(after["mass"], velocity * np.float32(step), after["solid"], carried, state.mass)
                if state.frame in missing:
                    frame_put(folder, writer, state, after["mass"], r, shot.first)
                before = after
    return Dust(folder)


def frame_put(folder: FrameFolder, writer: FrameWriter, state: FineState, c: np.ndarray, r: int, first: int) -> None:
    """Publish the state's mass, cropped to the active coarse cells, and at checkpoints what else the next frame needs."""
    cells, lower, mass = active_cells(c), np.zeros(3, np.int32), np.zeros((0, 0, 0), np.float32)
    if len(cells):
        low, high = cells.min(0) * r, (cells.max(0) + 1) * r
        lower, mass = low.astype(np.int32), state.mass[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    if (state.frame - first) % CHECKPOINT == 0:
        folder.put(f"state.{state.frame:04d}", {"texture": state.texture})
    writer.put(state.frame, {"lower": lower, "mass": mass})


def state_resume(folder: FrameFolder, before: range, shape: np.ndarray) -> FineState | None:
    """The latest state that the folder holds whole among the frames `before`, or None. Outside its box a frame is zero."""
    for frame in reversed(before):
        if (frame - before.start) % CHECKPOINT == 0 and folder.has(f"state.{frame:04d}") and folder.has_frame(frame):
            stored, mass = folder.get_frame(frame), np.zeros(tuple(shape), np.float32)
            mass[tuple(slice(a, a + n) for a, n in zip(stored["lower"], stored["mass"].shape, strict=True))] = stored["mass"]
            return FineState(frame, mass, folder.get(f"state.{frame:04d}")["texture"])
    return None
