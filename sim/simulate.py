"""The stage that lets the building fall: fragments and bonds in, motion out, one frame after the other.

In: a Shot (sim, events, materials, fracture.shrink, first, frames, fps), Fragments, Bonds, a folder. Out: Motion in that folder, and whole
solver states every `sim.checkpoint` frames, the last two kept. A run that was killed goes on from the last good state and
ends with the same bytes. A state that cannot be is refused by name (sim/soundness.py) and not written; frames before it are kept.
Expects Taichi to be open (shot/device.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from shot.frames import FrameFolder, FrameWriter
from shot.params import Shot
from shot.results import GROUND, Bonds, Fragments, Motion, Progress
from sim.body import bodies_of
from sim.collapse import Collapse, Counts, Records, collapse_create, collapse_digest, collapse_load, collapse_save
from sim.column import column_read
from sim.entry import waiting_at
from sim.layout import ASLEEP
from sim.ledger import residual
from sim.record import BREAK, CRUSH, IMPACT, joined
from sim.soundness import broken_off, frame_check, guard, strides_told
from sim.step import step
from sim.stress import lattice_forget
from sim.world import Poses, bodies_read, fragments_read

log = logging.getLogger(__name__)


def simulate(
    shot: Shot, fragments: Fragments, bonds: Bonds, folder: FrameFolder, frames: Sequence[int], progress: Progress
) -> Motion:
    """Simulate from shot.first to the last of `frames`. Raises SimulationFailed, MissingResource where memory ends."""
    span = range(shot.first, max(frames, default=shot.first) + 1)
    collapse = collapse_create(shot, fragments, bonds)
    resumed = _resume(collapse, folder, span)
    bodies = bodies_of(shot.events, fragments, shot.materials)
    if bodies is not None and not folder.has(bodies.ARRAYS):
        bodies.save(folder)
    if not folder.has("static"):
        folder.put("static", {"time_first": np.array(0.0)})
    with FrameWriter(folder, progress) as writer:
        if resumed is None:
            writer.put(shot.first, frame_arrays(collapse))
        arrays, moved, capped = {}, True, {}
        for frame in span:
            if frame <= (shot.first if resumed is None else resumed):
                if resumed is not None:
                    progress(frame)
                continue
            collapse.records, collapse.counts, moved_before, moved = Records(), Counts(), moved, False
            lattice_forget(collapse.lattice)  # a resumed run starts its frame without
            for _ in range(shot.steps_per_frame):
                if _step(collapse, shot, frame):
                    guard(collapse, shot, frame)
                    moved = True
            same = not (moved or moved_before)  # as the frame before, which had no records either
            arrays = arrays | {"hash": frame_hash(collapse)} if same else frame_arrays(collapse)
            frame_check(collapse, shot, frame, arrays)
            writer.put(frame, arrays)
            _report(frame, arrays, collapse)
            if collapse.counts.capped:
                capped[frame] = collapse.counts.capped
            if (frame - shot.first) % shot.sim.checkpoint == 0:
                writer.finish()  # a state counts only with its frame
                folder.put(_state_name(frame), collapse_save(collapse))
                _forget(folder, frame - 2 * shot.sim.checkpoint)
    if capped:
        worst = max(capped, key=lambda frame: capped[frame])
        log.warning(
            "sim.break_rounds = %d held cracks back in %d of %d frames; most in frame %d: %d bonds overloaded at the end of its steps",
            shot.sim.break_rounds, len(capped), len(span), worst, capped[worst],
        )
    return Motion(folder)


def _step(c: Collapse, shot: Shot, frame: int) -> bool:
    try:
        return step(c)
    except (FloatingPointError, np.linalg.LinAlgError, MemoryError) as error:
        raise broken_off(c, shot, frame, error) from error


def frame_arrays(c: Collapse) -> dict[str, np.ndarray]:
    """What Motion stores of a frame, and the records since the last one."""
    poses, bodies = fragments_read(c.world), bodies_read(c.world)
    ledger = c.ledger.read(_as_if_there(c, poses), bodies, column_read(c.world.body.array["inertia"]), c.lattice, c.elastic.u, c.inside)
    return {
        "position": poses.position.astype(np.float32),
        "rotation": poses.rotation.astype(np.float32),
        "velocity": poses.velocity.astype(np.float32),
        "angular_velocity": poses.angular_velocity.astype(np.float32),
        "cluster": np.where(c.held, GROUND - c.label, c.label).astype(np.int32),
        "asleep": poses.state == ASLEEP,
        "bond_state": c.breakage.state.copy(),
        "bond_damage": c.breakage.damage.astype(np.float16),
        **joined(c.records.breaks, BREAK),
        **joined(c.records.impacts, IMPACT),
        **joined(c.records.crushes, CRUSH),
        "ledger": ledger,
        "hash": frame_hash(c),
    }


def frame_hash(c: Collapse) -> np.ndarray:
    """() u64 of the whole state."""
    return np.array(collapse_digest(c), np.uint64)


def _as_if_there(c: Collapse, poses: Poses) -> Poses:
    """Bodies that have not come in at their start: they have no part in the energies."""
    away = waiting_at(c.entries, c.step)
    position = poses.position.copy()
    position[away] = c.fragments.position[away]
    return replace(poses, position=position)


def _state_name(frame: int) -> str:
    return f"state.{frame:04d}"


def _resume(c: Collapse, folder: FrameFolder, span: range) -> int | None:
    """Load the newest whole state that has all frames before it; returns its frame, or None to start anew."""
    done = folder.frames_done(span)
    for frame in reversed(span[:done]):
        name = _state_name(frame)
        if (folder.path / f"{name}.npz").exists() and folder.has(name):
            collapse_load(c, folder.get(name))
            return frame
    return None


def _forget(folder: FrameFolder, frame: int) -> None:
    for suffix in ("npz", "digest"):
        (folder.path / f"{_state_name(frame)}.{suffix}").unlink(missing_ok=True)


def _report(frame: int, arrays: Mapping[str, np.ndarray], c: Collapse) -> None:
    """One line per frame, and a warning where a limit was passed."""
    counts = c.counts
    log.info(
        "frame %d: %d breaks, %d bonds overloaded when the rounds ran out, %d impacts, %d clusters, %d lattice solves (%d iterations), "
        "%d contact solves, energy residual %.3g J",
        frame, len(arrays["break_bond"]), counts.capped, len(arrays["impact_time"]), len(np.unique(arrays["cluster"])), counts.solves,
        counts.iterations, counts.contacts, residual(arrays["ledger"]),
    )
    if counts.stalled:
        log.warning("frame %d: %d lattice solves missed sim.stress_tolerance", frame, counts.stalled)
    for warning in strides_told(c, frame):
        log.warning(warning)
