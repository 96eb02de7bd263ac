"""What happens to the building on purpose: cuts, weakening, pushes.

In: the events of a shot, fragments, bonds. Out: a Schedule, which answers for any step which bonds are cut, what share of strength
is left, and what acceleration acts. It depends on the step number alone, so a resumed run needs no memory of it.

An event of frame f acts from the first step of the interval that ends with frame f: f is the first frame that shows it. `delay` times
the distance from the box's lower corner (clipped to the structure) puts parts of it off: a rolling sequence.
A cut or weakening takes bonds whose centroid lies in the box and that hold at least one fragment of the listed kinds.
A cut is a charge: pieces of those kinds whose centre lies in the box lose `rubble` of their size as bodies, or the building
would go on standing on its cut columns, block on block. There is no blast wave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shot.params import Event
from shot.results import GROUND, MEMBER_KINDS, Bonds, Fragments


@dataclass(frozen=True)
class Schedule:
    """Per event: kind, the bonds or fragments it acts on, the step at which each is reached, how long it lasts, and how hard."""

    kind: tuple[str, ...]
    target: tuple[np.ndarray, ...]  # bonds, or fragments of a push
    step: tuple[np.ndarray, ...]  # first step that feels it, per target
    duration: tuple[int, ...]  # [steps]
    amount: tuple[float, ...]
    force: tuple[np.ndarray, ...]  # (3) [m/s2]


def schedule(
    events: tuple[Event, ...], first: int, fps: float, steps_per_frame: int, fragments: Fragments, bonds: Bonds
) -> Schedule:
    """Resolve boxes, kinds and times of all events."""
    low, high = fragments.position.min(axis=0), fragments.position.max(axis=0)
    columns: list[list] = [[], [], [], [], [], []]
    for event in events:
        lower, upper = np.array(event.lower), np.array(event.upper)
        place = fragments.position if event.kind == "push" else bonds.centroid
        wanted = np.array([not event.members or kind in event.members for kind in MEMBER_KINDS])[fragments.kind]
        if event.kind != "push":
            wanted = wanted[bonds.fragment_a] | np.where(bonds.fragment_b == GROUND, False, wanted[bonds.fragment_b])
        target = np.flatnonzero(wanted & ((place >= lower) & (place <= upper)).all(axis=1))
        corner = np.clip(lower, low, high)
        late = event.delay * np.linalg.norm(place[target] - corner, axis=1) * fps * steps_per_frame
        start = max(event.frame - 1 - first, 0) * steps_per_frame + np.ceil(late - 1e-9).astype(np.int64)
        values = event.kind, target, start, event.frames * steps_per_frame, event.amount, np.array(event.force)
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return Schedule(*(tuple(column) for column in columns))


def rubble(events: tuple[Event, ...], fragments: Fragments) -> np.ndarray:
    """(F) share of its size that each fragment loses as a body, because a cut will reach it."""
    lost = np.zeros(fragments.count)
    for event in events:
        if event.kind == "cut":
            place = fragments.position
            wanted = np.array([not event.members or kind in event.members for kind in MEMBER_KINDS])[fragments.kind]
            wanted &= ((place >= np.array(event.lower)) & (place <= np.array(event.upper))).all(axis=1)
            lost[wanted] = np.maximum(lost[wanted], event.rubble)
    return lost


def bonds_cut(plan: Schedule, step: int) -> np.ndarray:
    """Bonds that a cut reaches in this step, ascending and unique."""
    hit = [target[start == step] for kind, target, start in zip(plan.kind, plan.target, plan.step, strict=True) if kind == "cut"]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *hit]))


def strength_left(plan: Schedule, step: int, count: int) -> np.ndarray:
    """(B) share of strength left in this step; a weakening grows evenly over its duration and stays."""
    left = np.ones(count)
    for k, kind in enumerate(plan.kind):
        if kind == "weaken":
            progress = np.clip((step + 1 - plan.step[k]) / plan.duration[k], 0.0, 1.0)
            left[plan.target[k]] *= 1.0 - plan.amount[k] * progress
    return left


def push(plan: Schedule, step: int, count: int) -> np.ndarray:
    """(F, 3) [m/s2] acceleration that pushes give in this step."""
    acceleration = np.zeros((count, 3))
    for k, kind in enumerate(plan.kind):
        if kind == "push":
            active = (plan.step[k] <= step) & (step < plan.step[k] + plan.duration[k])
            acceleration[plan.target[k][active]] += plan.force[k]
    return acceleration
