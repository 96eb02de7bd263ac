"""Stage `upsample`: coarse dust to fine dust, each coarse cell's mass kept exactly.

In: coarse frames of mass and velocity. Out: fine frames, cropped to the box that holds dust. `advect` carries the fine state and
projects it (advect.py); `network` lets a small network reshape the carried state inside every coarse cell (dust_network.py).

Windows. What recurs restarts: window n owns WINDOW frames from first + n WINDOW and starts FADE frames earlier from the coarse dust;
during these the output fades from window n - 1 to n. So a frame depends on at most WINDOW + FADE frames before it, never on
which frames were asked for, and a killed or chunked run gives the same bytes. Both sides of a fade carry the coarse mass, so
their mean does too. Price: FADE / WINDOW more work, and slightly softer detail during a fade.

Not handled: walls inside a coarse cell; a coarse run whose dust grid moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neural.advect import FineState, active_cells, fine_carry, fine_start, noise_tile
from neural.dust_network import DustNetwork, network_load
from shot.errors import MissingResource
from shot.frames import FrameFolder
from shot.params import Shot
from shot.results import Dust, Progress

WINDOW, FADE = 24, 8  # frames


def upsample(shot: Shot, coarse: Dust, folder: FrameFolder, frames: Sequence[int], progress: Progress, weights: Path | None) -> Dust:
    """Fine dust for `frames`, shot.dust.upsample cells per coarse cell and axis. Reads shot.dust, seed, first, fps.

    `weights` (dust_upsampler.onnx) is needed, and read, only for dust.upsampler = "network". Raises MissingResource without it."""
    grid, r = coarse.grid, shot.dust.upsample
    folder.put("grid", {"origin": grid["origin"], "cell": grid["cell"] / r, "shape": (grid["shape"] * r).astype(np.int32)})
    network = None
    if shot.dust.upsampler == "network" and r > 1:
        if weights is None:
            raise MissingResource('dust.upsampler = "network" needs assets/weights/dust_upsampler.onnx; "advect" needs no weights')
        network = network_load(weights, r)
    carrier = Carrier(shot, coarse, network)
    live: dict[int, FineState] = {}
    for frame in sorted(frames):
        if not folder.has_frame(frame):
            shares = window_shares(frame - shot.first)
            live = {window: carrier.advance(live.get(window), window, frame) for window in shares}
            folder.put_frame(frame, frame_arrays(carrier.mass(frame), r, [(share, live[n].mass) for n, share in shares.items()]))
        progress(frame)
    return Dust(folder)


def window_shares(index: int) -> dict[int, float]:
    """The windows that make frame first + index, and their shares, which sum to 1."""
    window, inside = divmod(index, WINDOW)
    late = inside - (WINDOW - FADE)
    if late < 0:
        return {window: 1.0}
    t = (late + 0.5) / FADE
    new = t * t * (3.0 - 2.0 * t)
    return {window: 1.0 - new, window + 1: new}


def frame_arrays(c: np.ndarray, r: int, parts: list[tuple[float, np.ndarray]]) -> dict[str, np.ndarray]:
    """A fine frame of Dust: the weighted mean of the windows, cropped to the active coarse cells."""
    cells = active_cells(c)
    if not len(cells):
        return {"lower": np.zeros(3, np.int32), "mass": np.zeros((0, 0, 0), np.float32)}
    low, high = cells.min(0) * r, (cells.max(0) + 1) * r
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    mass = np.zeros([s.stop - s.start for s in box], np.float32)
    for share, fine in parts:
        mass += np.float32(share) * fine[box]
    return {"lower": low.astype(np.int32), "mass": mass}


class Carrier:
    """Advances fine states through the coarse frames; owns the coarse frames read last, the noise and the network."""

    def __init__(self, shot: Shot, coarse: Dust, network: DustNetwork | None):
        self.shot, self.coarse, self.network = shot, coarse, network
        self.noise = noise_tile(shot.seed)
        self.recent: dict[int, dict[str, np.ndarray]] = {}

    def read(self, frame: int) -> dict[str, np.ndarray]:
        """A coarse frame; the latest few stay in memory, since two windows read them."""
        if frame not in self.recent:
            if len(self.recent) >= 4:
                del self.recent[min(self.recent)]
            self.recent[frame] = self.coarse.frame(frame)
        return self.recent[frame]

    def mass(self, frame: int) -> np.ndarray:
        """Coarse mass (nx, ny, nz) f32 [kg]."""
        return self.read(frame)["mass"]

    def advance(self, state: FineState | None, window: int, frame: int) -> FineState:
        """The state of `window` at `frame`, from `state` (the same window, earlier) or from the window's start."""
        shot, r = self.shot, self.shot.dust.upsample
        if state is None:
            start = shot.first + max(0, window * WINDOW - FADE)
            state = fine_start(self.mass(start), r, start)
        cell = float(self.coarse.grid["cell"])
        while state.frame < frame:
            before, after = self.read(state.frame), self.read(state.frame + 1)
            velocity = 0.5 * (before["velocity"] + after["velocity"])
            state, carried = fine_carry(state, after["mass"], velocity, r, 1.0 / (shot.fps * cell), shot.dust.settle, shot.dust.detail,
                                        self.noise, shot.first, shot.seed)
            if self.network is not None:
                state.mass = self.network.reshape(after["mass"], velocity / (shot.fps * cell), after["solid"], carried, state.mass)
        return state
