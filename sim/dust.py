"""Stage `dust`: airborne dust on a coarse grid, blown about by the air that falling pieces push aside.

In: the rest shape and the motion of all pieces, the dust that events shed. Out: per frame the mass of dust in every cell, the air's
velocity, the share of each cell that pieces fill, and a ledger: emitted = airborne + left + settled.
Reference: see air.py (mixture of air and pieces on a staggered grid) and pressure.py. Dust is kept as mass per cell in double
precision and moved by fluxes, so the ledger closes to rounding; the number of sub-steps follows from the largest speed of the
frame before it, so it is the same on every run.
Not handled: pieces smaller than a cell only drag and crowd the air, they do not shelter it; dust settles on the ground, not on
pieces; the box is fixed for the whole shot and what leaves it does not come back.
"""
# pyright: reportCallIssue=false, reportArgumentType=false
# (kernels take many arrays, handed over as unpacked tuples whose length pyright cannot know)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shot import rotation
from shot.entering import entered
from shot.errors import SimulationFailed
from shot.frames import FrameFolder, FrameWriter
from shot.params import Shot
from shot.results import Dust, Fragments, Motion, Progress, Seeds, Shed, seeds_joined
from sim import air
from sim.air import Grid, Pieces
from sim.pressure import Levels, levels_make, pressure_solve

COURANT_AIR = 2.0  # cells that air may cross in one sub-step: semi-Lagrangian, stable at any, accurate to a few
COURANT_DUST = 0.5  # share of a cell's volume that may flow out in one transport step: keeps mass positive without limiting
STEPS_MOST = 16  # sub-steps of a frame
TOLERANCE = 1e-3  # of the divergence before the projection
VECTORS = ("path", "new", "low", "high", "carried", "curl", "force", "piece", "momentum")
CHECKPOINT = 8  # frames between whole states; a resumed run repeats fewer than this


def dust(shot: Shot, fragments: Fragments, motion: Motion, shed: Shed, folder: FrameFolder, frames: Sequence[int],
         progress: Progress) -> Dust:
    """Frames shot.first..max(frames) of the coarse dust, resuming after the frames that `folder` holds.

    Reads shot.dust and sim.gravity. Raises SimulationFailed, naming the frame, if the air's state stops being finite."""
    grid = grid_around(fragments, shot.dust.cell, shot.dust.margin)
    folder.put("grid", {"origin": grid.origin, "cell": np.array(grid.cell), "shape": np.array(grid.shape, np.int32),
                        "settle": np.array(shot.dust.settle)})
    wanted = range(shot.first, max(frames, default=shot.first - 1) + 1)
    done = folder.frames_done(wanted)
    boxes, work = boxes_of(fragments), work_make(grid)
    state = state_resume(folder, wanted[:done], grid) or state_make(grid, shot.dust.wind, shot.first - 1)
    before = motion.frame(state.frame) if state.frame >= shot.first else None
    for finished in wanted[:done]:
        progress(finished)
    with FrameWriter(folder, progress) as writer:
        for frame in range(state.frame + 1, wanted.stop):
            after, source = motion.frame(frame), source_of(frame_seeds(shed, shot.first, frame), grid, shot.dust.amount)
            frame_step(shot, grid, boxes, source, entered(before or after, after, 1.0 / shot.fps), after, state, work, frame)
            before, state.frame = after, frame
            if frame - shot.first >= done:
                if (frame - shot.first) % CHECKPOINT == 0:
                    folder.put(f"state.{frame:04d}", state_arrays(state))
                writer.put(frame, frame_arrays(grid, state, work))
    return Dust(folder)


# ---------------------------------------------------------------- what there is


@dataclass
class State:
    """All that the next frame depends on. Flat arrays with ghosts."""

    u: np.ndarray  # f32 [m/s] on lower x faces
    v: np.ndarray
    w: np.ndarray
    p: np.ndarray  # f32 last pressure, the first guess of the next
    mass: np.ndarray  # (cells with ghosts) f64 [kg]
    ledger: np.ndarray  # (3) f64 [kg] emitted, left, settled
    frame: int


@dataclass(frozen=True)
class Work:
    """Memory of a step; nothing in it outlives the step but `volume`, which the frame's `solid` is read from."""

    real: dict[str, np.ndarray]  # f32
    wide: dict[str, np.ndarray]  # f64: fluxes of dust
    whole: dict[str, np.ndarray]  # i64: shares of faces and cells
    levels: Levels
    rows: np.ndarray  # (nx ny) f32
    loss: np.ndarray  # (nx ny) f64
    power: np.ndarray  # (nx ny) f64


@dataclass(frozen=True)
class Boxes:
    """One box per piece, in the piece's rest axes."""

    centre: np.ndarray  # (F, 3) f64 [m] from the centre of mass
    half: np.ndarray  # (F, 3) f64 [m]
    volume: np.ndarray  # (F) f64 [m3] of the piece
    fill: np.ndarray  # (F) f64 piece's share of its box


@dataclass(frozen=True)
class Source:
    """Dust shed by events, sorted by time; places in cells from the ghost corner."""

    time: np.ndarray  # (D) f64 [s]
    place: np.ndarray  # (D, 3) f32 [cells]
    velocity: np.ndarray  # (D, 3) f32 [m/s]
    radius: np.ndarray  # (D) f32 [cells]
    mass: np.ndarray  # (D) f64 [kg]


def grid_around(fragments: Fragments, cell: float, margin: float) -> Grid:
    """The box of air: the building and `margin` on all sides and above, floor at y = 0, sides in multiples of four cells."""
    owner = np.repeat(np.arange(fragments.count), np.diff(fragments.vertex_start))
    world = fragments.vertex + fragments.position[owner]
    world = world[fragments.built[owner]]
    low, high = world.min(0) - margin, world.max(0) + margin
    low[1] = 0.0
    cells = 4 * np.ceil((high - low) / (4.0 * cell) - 1e-9).astype(int)
    extra = cells * cell - (high - low)
    low -= 0.5 * extra * np.array([1.0, 0.0, 1.0])
    return Grid(low, float(cell), (int(cells[0]), int(cells[1]), int(cells[2])))


def boxes_of(fragments: Fragments) -> Boxes:
    """Bounding box of each piece's hulls in its rest axes: building members lie along them."""
    first = fragments.hull_vertex_start[np.searchsorted(fragments.hull_fragment, np.arange(fragments.count))]
    low = np.minimum.reduceat(fragments.hull_vertex, first).astype(float)
    high = np.maximum.reduceat(fragments.hull_vertex, first).astype(float)
    half = np.maximum(0.5 * (high - low), 1e-4)
    return Boxes(0.5 * (low + high), half, fragments.volume, np.minimum(1.0, fragments.volume / (8.0 * half.prod(1))))


def frame_seeds(shed: Shed, first: int, frame: int) -> Seeds:
    """What a frame emits: the frame after the first also what the first has shed, which has no time of its own; the first nothing."""
    return seeds_joined([shed.frame(first), shed.frame(frame)]) if frame == first + 1 else shed.frame(frame)


def source_of(seeds: Seeds, grid: Grid, amount: float) -> Source:
    """The dust of the seeds in grid units."""
    place = (seeds.dust_position - grid.origin) / grid.cell + 1.0
    return Source(seeds.dust_time, place.astype(np.float32), np.ascontiguousarray(seeds.dust_velocity, np.float32),
                  (seeds.dust_radius / grid.cell).astype(np.float32), amount * seeds.dust_mass)


def state_make(grid: Grid, wind: tuple[float, float, float], frame: int) -> State:
    """Clean air that moves with the wind, at the end of `frame`."""
    state = State(*(grid.zeros() for _ in range(4)), grid.zeros(np.float64), np.zeros(3), frame)
    for face, speed in zip((state.u, state.v, state.w), wind, strict=True):
        face.reshape(grid.padded)[1:, 1:, 1:] = speed
    state.v.reshape(grid.padded)[:, 1] = 0.0
    return state


def work_make(grid: Grid) -> Work:
    """Memory for the steps of one grid."""
    real = {f"{name}_{axis}": grid.zeros() for name in VECTORS for axis in "xyz"}
    real |= {name: grid.zeros() for name in ("curl", "gain", "divergence")}
    wide = {name: grid.zeros(np.float64) for name in ("x", "y", "z", "keep")}
    whole = {name: grid.zeros(np.int64) for name in ("ax", "ay", "az", "mx", "my", "mz", "volume", "unused")}
    rows = grid.shape[0] * grid.shape[1]
    return Work(real, wide, whole, levels_make(grid.shape), np.zeros(rows, np.float32), np.zeros(rows), np.zeros(rows))


def state_arrays(state: State) -> dict[str, np.ndarray]:
    """A whole state to publish."""
    return {name: getattr(state, name) for name in ("u", "v", "w", "p", "mass", "ledger")}


def state_resume(folder: FrameFolder, done: range, grid: Grid) -> State | None:
    """The latest whole state at or before the last finished frame, or None."""
    for frame in reversed(done):
        if (frame - done[0]) % CHECKPOINT == 0 and folder.has(f"state.{frame:04d}"):
            stored = folder.get(f"state.{frame:04d}")
            if stored["mass"].size == np.prod(grid.padded):
                return State(**{name: array.copy() for name, array in stored.items()}, frame=frame)
    return None


def frame_arrays(grid: Grid, state: State, work: Work) -> dict[str, np.ndarray]:
    """What a frame of Dust holds, and nothing else."""
    velocity = np.zeros((*grid.shape, 3), np.float32)
    air.centre_velocity(*grid.shape, state.u, state.v, state.w, velocity)
    return {
        "mass": grid.cells(state.mass).astype(np.float32),
        "velocity": velocity,
        "solid": np.minimum(grid.cells(work.whole["volume"]) / air.SHARE_UNIT, 1.0).astype(np.float32),
        "emitted": state.ledger[0], "left": state.ledger[1], "settled": state.ledger[2],
    }


# ---------------------------------------------------------------- one frame


def frame_step(shot: Shot, grid: Grid, boxes: Boxes, source: Source, before: Mapping, after: Mapping, state: State, work: Work,
               frame: int) -> None:
    """Advance from the end of the frame before to the end of `frame`, emitting `source`; the first frame only settles the wind around
    the pieces."""
    span = 1.0 / shot.fps
    start = (frame - 1 - shot.first) * span
    if frame == shot.first:
        pieces_lay(grid, pieces_at(grid, boxes, after, after, 0.0, span), work)
        air_project(shot, grid, state, work)
        return
    fastest = max(float(np.abs(face).max()) for face in (state.u, state.v, state.w))
    fastest = max(fastest, min(float(np.abs(after["position"] - before["position"]).max(initial=0.0)) / span, air.SPEED_MOST))
    steps = int(np.clip(np.ceil(fastest * span / (COURANT_AIR * grid.cell)), 1, STEPS_MOST))
    edges = np.searchsorted(source.time, start + span * np.arange(1, steps) / steps, side="right")
    edges = np.concatenate([[0], edges, [len(source.time)]])
    for step in range(steps):
        pieces_lay(grid, pieces_at(grid, boxes, before, after, (step + 0.5) / steps, span), work)
        emit(grid, source, int(edges[step]), int(edges[step + 1]), state, work)
        air_step(shot, grid, state, work, span / steps)
        dust_step(grid, state, work, span / steps, shot.dust.settle)
        state_check(state, frame)


def state_check(state: State, frame: int) -> None:
    """Raise SimulationFailed if a speed or the mass is no number."""
    for name in ("u", "v", "w", "mass"):
        if not np.isfinite(getattr(state, name).sum(dtype=np.float64)):
            raise SimulationFailed(f"dust, frame {frame}: {name} is not finite; try a smaller dust.turbulence or a larger dust.cell")


def pieces_at(grid: Grid, boxes: Boxes, before: Mapping, after: Mapping, part: float, span: float) -> Pieces:
    """Boxes at `part` of the way between two frames that lie `span` seconds apart; speeds are those of this way."""
    q0, q1 = before["rotation"].astype(float), after["rotation"].astype(float)
    turn = rotation.multiply(q1, rotation.conjugate(q0))
    turn *= np.where(turn[:, :1] < 0.0, -1.0, 1.0)
    sine = np.linalg.norm(turn[:, 1:], axis=1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, turn[:, :1])
    axis = turn[:, 1:] / np.maximum(sine, 1e-12)
    q = rotation.multiply(np.concatenate([np.cos(0.5 * part * angle), np.sin(0.5 * part * angle) * axis], 1), q0)
    R = rotation.matrix(q)
    arm = np.einsum("fab,fb->fa", R, boxes.centre)
    p0, p1 = before["position"].astype(float), after["position"].astype(float)
    centre = p0 + part * (p1 - p0) + arm
    spin = angle * axis / span
    velocity = (p1 - p0) / span + np.cross(spin, arm)
    velocity *= np.minimum(1.0, air.SPEED_MOST / np.maximum(np.linalg.norm(velocity, axis=1, keepdims=True), 1e-9))
    h = boxes.half
    face = 4.0 * np.stack([h[:, 1] * h[:, 2], h[:, 2] * h[:, 0], h[:, 0] * h[:, 1]], 1)
    shadow = np.einsum("fab,fb->fa", np.abs(R), face) * boxes.fill[:, None]  # [m2] along x, y, z
    count = np.maximum(np.ceil(2.0 * h / grid.cell - 1e-6), 1).astype(np.int32)
    each = 1.0 / (count.prod(1)[:, None] * grid.cell**2)
    across = np.maximum(shadow, boxes.volume[:, None] / grid.cell) * each  # a thick piece blocks every layer it fills
    share = np.concatenate([across, boxes.volume[:, None] / grid.cell * each], 1)
    axes = np.swapaxes(R * h[:, None, :], 1, 2) / grid.cell
    return Pieces(_f32((centre - grid.origin) / grid.cell + 1.0), _f32(axes), count, _f32(share), _f32(velocity), _f32(spin * grid.cell))


def pieces_lay(grid: Grid, pieces: Pieces, work: Work) -> None:
    """Openness and piece speed of every face, volume of pieces in every cell."""
    W, L, real = work.whole, work.levels, work.real
    for array in W.values():
        array[:] = 0
    air.pieces_rasterise(*grid.shape, pieces.centre, pieces.axes, pieces.count, pieces.share, pieces.velocity, pieces.spin, *W.values())
    air.faces_openness(*grid.shape, *(W[name] for name in ("ax", "ay", "az", "mx", "my", "mz")), L.wx, L.wy, L.wz,
                       *(real[f"piece_{axis}"] for axis in "xyz"))


def emit(grid: Grid, source: Source, first: int, last: int, state: State, work: Work) -> None:
    """Mass and momentum of the events first..last; what falls outside the box has left it."""
    real = work.real
    gains = [real["gain"], real["momentum_x"], real["momentum_y"], real["momentum_z"]]
    for gain in gains:
        gain[:] = 0.0
    if last > first:
        lost = np.zeros(2)
        air.emit(*grid.shape, first, last, source.place, source.velocity, source.radius, source.mass, work.whole["volume"],
                 state.mass, *gains, lost)
        state.ledger[0] += source.mass[first:last].sum()
        state.ledger[1] += lost[0]


def air_step(shot: Shot, grid: Grid, state: State, work: Work, dt: float) -> None:
    """One sub-step of the air: carry the velocity, add forces, make it free of divergence."""
    real, n, old = work.real, grid.shape, (state.u, state.v, state.w)
    vector = {name: [real[f"{name}_{axis}"] for axis in "xyz"] for name in VECTORS}
    air.path_trace(*n, dt / grid.cell, *old, *vector["path"])
    air.advect_predict(*n, *shot.dust.wind, *old, *vector["path"], *vector["new"], *vector["low"], *vector["high"])
    new = vector["carried"]
    air.advect_correct(*n, *old, *vector["path"], *vector["new"], *vector["low"], *vector["high"], *new)
    air.vorticity(*n, grid.cell, *new, *vector["curl"], real["curl"])
    air.confinement(*n, grid.cell, *vector["curl"], real["curl"], *vector["force"])
    air.stir_rows(*n, *old, *new, *vector["force"], work.loss, work.power)
    returned = max(0.0, float(work.loss.sum())) / max(dt * float(work.power.sum()), 1e-30)
    stir = shot.dust.turbulence * min(1.0, returned)
    L = work.levels
    air.forces(*n, dt, grid.cell, air.AIR_DENSITY, shot.sim.gravity * shot.dust.buoyancy, stir, *vector["force"], real["gain"],
               *vector["momentum"], state.mass, L.wx, L.wy, L.wz, *vector["piece"], *new)
    for face, value in zip(old, new, strict=True):
        face[:] = value
    air_project(shot, grid, state, work)


def air_project(shot: Shot, grid: Grid, state: State, work: Work) -> None:
    """Remove the divergence through the pressure."""
    L, b = work.levels, work.real["divergence"]
    air.divergence(*grid.shape, state.u, state.v, state.w, b)
    pressure_solve(L, state.p, b, TOLERANCE, shot.dust.iterations)
    air.pressure_apply(*grid.shape, state.p, L.wx, L.wy, L.wz, state.u, state.v, state.w)


def dust_step(grid: Grid, state: State, work: Work, dt: float, settle: float) -> None:
    """Move the dust with the air and downwards, in as many transport steps as its Courant number asks for."""
    x, y, z, keep = work.wide.values()
    if not state.mass.any():
        return
    air.outflow_courant(*grid.shape, settle, state.u, state.v, state.w, work.rows)
    steps = max(1, int(np.ceil(float(work.rows.max()) * dt / (COURANT_DUST * grid.cell))))
    courant = dt / steps / grid.cell
    for _ in range(steps):
        air.dust_fluxes(*grid.shape, courant, settle, state.u, state.v, state.w, work.levels.wy, state.mass, x, y, z)
        air.dust_limit(*grid.shape, state.mass, x, y, z, keep)
        air.dust_borders(*grid.shape, x, y, z, keep, state.ledger)
        air.dust_update(*grid.shape, x, y, z, keep, state.mass)


def _f32(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)
