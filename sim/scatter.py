"""Scatter: the flight, bounce and rest of the small pieces that the collapse sheds.

In: Shed, Fragments, Motion; `shot.debris`, `shot.sim` (gravity, sleep_speed, sleep_time). Out: Debris frames.
A piece is a sphere of its own volume that feels gravity, air, the ground and the fragments; fragments do not feel it, nor do pieces
feel each other, so every piece is computed alone and threads change nothing. Between two frames fragments move linearly, their
rotation normalised-linearly; the kernels are in `sim/scatter_step.py`, one launch a frame.

Broad phase: once a frame, the boxes that fragments sweep are listed cell by cell in a uniform grid.
A frame rests on the one before, so frames are made from the shot's first on. `state.npz` holds the whole state behind the newest
frame; a resumed run goes on from it and ends with the same bits.

Does not model: pieces hitting or propping up anything, edges of hulls (a hull grown by the radius has sharp corners, so a piece
rounding one keeps a little further off), wind, or rolling without sliding: angular pieces slide, their rotation follows their path.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from shot.device import taichi_ready
from shot.entering import entered
from shot.errors import ShotError, SimulationFailed
from shot.frames import DamagedFile, FrameFolder, FrameWriter
from shot.params import Shot
from shot.results import Debris, Fragments, Motion, Progress, Seeds, Shed
from shot.rotation import matrix
from sim.hull import QhullError, hull_faces
from sim.scatter_step import ASLEEP, MOVING, grid_fill, scatter_frame

AIR_DENSITY, AIR_VISCOSITY = 1.2, 1.5e-5  # [kg/m3], [m2/s] at 20 degrees C
CELLS_MOST = 1 << 21  # grid cells; a scene strewn wider gets larger cells
STATE = "state"
CHECKPOINT = 8  # frames between states; a resumed run repeats fewer than this


def scatter(
    shot: Shot, fragments: Fragments, motion: Motion, shed: Shed, folder: FrameFolder, frames: Sequence[int], progress: Progress
) -> Debris:
    """Motion of every piece that was shed, in all frames up to the last of `frames`."""
    last = max(frames)
    done, state = _resume(shot, folder, last)
    for frame in range(shot.first, done + 1):
        progress(frame)
    if done < last:
        taichi_ready()
        hulls = _Hulls(fragments)
        poses = motion.frame(max(done, shot.first))
        with FrameWriter(folder, progress) as writer:
            for frame in range(done + 1, last + 1):
                after = motion.frame(frame)
                before, poses = entered(poses, after, 1.0 / shot.fps), after
                seeds = shed.until(shot.first, frame)
                state = _joined(state, seeds)
                _advance(shot, hulls, seeds, _drag(shot, fragments, seeds), before, poses, frame, state)
                writer.put(frame, {name: array.copy() for name, array in _picture(state).items()})
                if (frame - shot.first) % CHECKPOINT == 0 or frame == last:
                    writer.finish()  # a state speaks of frames that are there
                    folder.put(STATE, {**state, "frame": np.array(frame)})
    return Debris(folder)


def _resume(shot: Shot, folder: FrameFolder, last: int) -> tuple[int, dict[str, np.ndarray]]:
    """Newest frame that can be gone on from (first - 1 for none) and the state behind it (empty for none)."""
    try:
        state = {name: array.copy() for name, array in folder.get(STATE).items()}
        done = min(int(state.pop("frame")), last)
    except DamagedFile:
        return shot.first - 1, {}
    wanted = range(shot.first, done + 1)
    if folder.frames_done(wanted) < len(wanted):
        return shot.first - 1, {}
    return done, state


def _joined(state: dict[str, np.ndarray], seeds: Seeds) -> dict[str, np.ndarray]:
    """The state with the pieces that `seeds` holds beyond it, as they were shed."""
    new = slice(len(state["phase"]) if state else 0, None)
    n = len(seeds.time[new])
    born = {
        "position": seeds.position[new], "rotation": np.tile([1, 0, 0, 0], (n, 1)).astype(np.float32),
        "velocity": seeds.velocity[new], "spin": seeds.spin[new], "phase": np.zeros(n, np.int32),
        "calm": np.zeros(n, np.float32), "support": np.full(n, -1, np.int32), "held_position": np.zeros((n, 3), np.float32),
        "held_rotation": np.tile([1, 0, 0, 0], (n, 1)).astype(np.float32),
    }  # fmt: skip
    return {name: np.concatenate([state[name], rows]) if state else rows.copy() for name, rows in born.items()}


def _picture(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What Debris owes of a frame."""
    alive = (state["phase"] == MOVING) | (state["phase"] == ASLEEP)
    return {"position": state["position"], "rotation": state["rotation"], "velocity": state["velocity"] * alive[:, None], "alive": alive}


def _drag(shot: Shot, fragments: Fragments, seeds: Seeds) -> np.ndarray:
    """Deceleration (P, 2) per speed [1/s] and per speed squared [1/m]: C_d = 24 / Re + debris.drag, exact in Stokes' limit."""
    density = (fragments.mass / fragments.volume)[seeds.source]
    scale = 0.375 * AIR_DENSITY / (density * seeds.radius)
    return np.stack([scale * 12.0 * AIR_VISCOSITY / seeds.radius, scale * shot.debris.drag], axis=1).astype(np.float32)


class _Hulls:
    """Planes of all hulls, and each fragment's box and radius at rest."""

    def __init__(self, fragments: Fragments):
        planes: list[np.ndarray] = []
        for hull, fragment in enumerate(fragments.hull_fragment):
            points = fragments.hull_vertex[fragments.hull_vertex_start[hull] : fragments.hull_vertex_start[hull + 1]]
            try:
                _, _, _, normal, offset, _ = hull_faces(points.astype(np.float64))
            except QhullError as error:
                raise ShotError(f"fragment {fragment}: hull {hull} has no volume") from error
            planes.append(np.concatenate([normal, offset[:, None]], axis=1).astype(np.float32))
        count = fragments.count
        vertex_fragment = np.repeat(fragments.hull_fragment, np.diff(fragments.hull_vertex_start))
        self.plane = np.concatenate(planes)
        self.plane_start = np.concatenate([[0], np.cumsum([len(p) for p in planes])]).astype(np.int32)
        self.hull_start = np.searchsorted(fragments.hull_fragment, np.arange(count + 1)).astype(np.int32)
        low, high = np.full((count, 3), np.inf), np.full((count, 3), -np.inf)
        np.minimum.at(low, vertex_fragment, fragments.hull_vertex)
        np.maximum.at(high, vertex_fragment, fragments.hull_vertex)
        self.middle, self.half = 0.5 * (low + high), 0.5 * (high - low)
        self.radius = np.zeros(count)
        np.maximum.at(self.radius, vertex_fragment, np.linalg.norm(fragments.hull_vertex, axis=1))
        self.cell = float(np.median(2.0 * self.half.max(axis=1)))


def _advance(
    shot: Shot, hulls: _Hulls, seeds: Seeds, drag: np.ndarray, before: Mapping, now: Mapping, frame: int, state: dict[str, np.ndarray]
) -> None:
    """Carry the state over one frame. The frame before the first has no length: pieces born at rest time appear where they are."""
    start = (frame - shot.first - 1) / shot.fps
    if not len(seeds.time):
        return
    x0, x1 = before["position"].astype(np.float32), now["position"].astype(np.float32)
    q1 = now["rotation"].astype(np.float32)
    q0 = before["rotation"].astype(np.float32)
    q0 = np.where(np.einsum("ij,ij->i", q0, q1)[:, None] < 0, -q0, q0)
    turn = 2.0 * np.linalg.norm(q1 - q0, axis=1)  # chord of half the angle: good to 1 % at 0.5 rad a frame
    travel = np.linalg.norm(x1 - x0, axis=1) + turn * hulls.radius
    pace = np.where(travel == 0, 0, np.where(travel * shot.fps < shot.sim.sleep_speed, 1, 2)).astype(np.int32)

    grid = _grid(hulls, x0, x1, q0, q1, turn, float(seeds.radius.max()))
    birth = np.clip((seeds.time - start) * shot.fps, -1.0, 2.0).astype(np.float32)
    scatter_frame(
        shot.debris.steps, 1.0 / shot.fps, shot.sim.gravity, shot.debris.bounce, shot.debris.friction, shot.sim.sleep_speed,
        shot.sim.sleep_time, *grid, x0, x1, q0, q1, pace, hulls.radius.astype(np.float32), hulls.hull_start, hulls.plane_start, hulls.plane,
        seeds.radius, drag, birth, state["position"], state["rotation"], state["velocity"], state["spin"], state["phase"], state["calm"],
        state["support"], state["held_position"], state["held_rotation"],
    )  # fmt: skip
    bad = np.flatnonzero(~(np.isfinite(state["position"]).all(axis=1) & np.isfinite(state["velocity"]).all(axis=1)))
    if len(bad):
        raise SimulationFailed(f"frame {frame}: piece {bad[0]} of {len(seeds.time)} has no finite position or velocity")


def _grid(
    hulls: _Hulls, x0: np.ndarray, x1: np.ndarray, q0: np.ndarray, q1: np.ndarray, turn: np.ndarray, radius: float
) -> tuple[float, float, float, float, int, int, int, np.ndarray, np.ndarray]:
    """Uniform grid over the boxes that the fragments sweep: lower, cell, counts, start (cells + 1), fragments cell by cell."""
    low, high = np.full((len(x0), 3), np.inf), np.full((len(x0), 3), -np.inf)
    for x, q in ((x0, q0), (x1, q1)):
        turned = matrix(q)
        middle = x + np.einsum("nij,nj->ni", turned, hulls.middle)
        half = np.einsum("nij,nj->ni", np.abs(turned), hulls.half)
        low, high = np.minimum(low, middle - half), np.maximum(high, middle + half)
    bulge = (hulls.radius * turn**2 / 8.0)[:, None]  # sagitta of the arc between the two poses
    low, high = low - bulge, high + bulge
    cell = hulls.cell
    spread = np.maximum(high.max(axis=0) - low.min(axis=0), 1e-3)
    while np.prod(np.ceil(spread / cell) + 2) > CELLS_MOST:
        cell *= 2.0
    reach = radius + 0.25 * cell + 1e-3  # half of the longest path that the kernel looks up at once
    lower = low.min(axis=0) - reach
    size = (np.floor((high.max(axis=0) + reach - lower) / cell) + 1).astype(np.int32)
    box = np.concatenate([np.floor((low - reach - lower) / cell), np.floor((high + reach - lower) / cell)], axis=1).astype(np.int32)
    box = np.clip(box, 0, np.tile(size, 2) - 1)
    entries = int((box[:, 3:] - box[:, :3] + 1).prod(axis=1, dtype=np.int64).sum())
    start, item = np.zeros(int(np.prod(size)) + 1, np.int32), np.zeros(max(entries, 1), np.int32)
    grid_fill(box, int(size[0]), int(size[1]), int(size[2]), start, item)
    nx, ny, nz = (int(n) for n in size)
    return float(lower[0]), float(lower[1]), float(lower[2]), cell, nx, ny, nz, start, item
