"""The ground shakes: an acceleration history of the foundation.

In: the ground motions of a shot. Out: for any step the acceleration of the ground, which sim/step.py takes off all that stands on it.

Everything is told in the frame of the ground, as a camera on it sees it. There the ground is at rest and every mass feels -a(t): the same
equations as those of a moving ground, exactly, since it moves without turning. So friction and impact at the ground know its motion, a
building that holds to it sways by its own inertia in the lattice (its bonds to the ground carry the shear), loose rubble slides once
|a| exceeds friction times weight, and nothing that stands still is moved by rounding.

    a(t) = A e(t) cos(2 pi f t) d,   e a half cosine up over `ramp` of the duration, 1, and down again; taken in the middle of each step

A cosine at the start with no ramp is a sudden constant acceleration for f = 0. All points of the ground move alike. Several events add up.
Bodies on a path (colliders) keep to it in this frame; small debris and dust do not feel the motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shot.params import AnyEvent, Ground
from sim.event import step_first


@dataclass(frozen=True)
class Shaking:
    """All ground motions of a shot."""

    event: tuple[Ground, ...]
    step: tuple[int, ...]  # at which each starts
    h: float  # [s]


def shaking(events: Sequence[AnyEvent], first: int, steps_per_frame: int, h: float) -> Shaking:
    """Those among the events."""
    found = tuple(event for event in events if isinstance(event, Ground))
    return Shaking(found, tuple(step_first(event.frame, first, steps_per_frame) for event in found), h)


def ground_acceleration(motion: Shaking, step: int) -> np.ndarray:
    """(3) [m/s2] of the ground in the middle of a step."""
    total = np.zeros(3)
    for event, start in zip(motion.event, motion.step, strict=True):
        t = (step - start + 0.5) * motion.h
        if 0.0 < t < event.duration:
            way = np.array(event.direction) / np.linalg.norm(event.direction)
            total += event.amplitude * envelope(t / event.duration, event.ramp) * np.cos(2.0 * np.pi * event.frequency * t) * way
    return total


def ground_until(motion: Shaking) -> float:
    """Step by which the last motion is over."""
    return max((start + event.duration / motion.h for event, start in zip(motion.event, motion.step, strict=True)), default=-1.0)


def ground_speed(motion: Shaking) -> float:
    """[m/s] at most that the motions can give to what does not follow them."""
    return sum(event.amplitude * event.duration for event in motion.event)


def envelope(part: float, ramp: float) -> float:
    """Share of the amplitude at a part 0..1 of the duration."""
    edge = min(part, 1.0 - part)
    return 1.0 if edge >= ramp else 0.5 - 0.5 * float(np.cos(np.pi * edge / ramp))
