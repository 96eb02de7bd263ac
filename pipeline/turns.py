"""Stages of one process that take turns, frame by frame, so that each works on what the one before it has just made.

In: tasks (plain functions). Out: nothing; all of them have returned, or one has raised and the others are ended, their `finally` run.
A task lets go in `pause`: after each frame, and where it waits for a frame of another process. Greenlets, not threads: Taichi sees one
thread, and nothing happens at the same time. Rounding is set anew at every turn, because a network's session may change it for the thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from greenlet import getcurrent, greenlet

from shot.device import denormals_keep

POLL = 0.01  # [s] between two looks for a frame, where all tasks wait for one


class _Task(greenlet):
    """A task and the time that its turns took."""

    spent = 0.0  # [s]
    since = 0.0  # [s] start of its turn


def take_turns(tasks: Sequence[Callable[[], None]]) -> None:
    """Run tasks until all have returned. Raises what the first one to fail raised."""
    left = [_Task(task) for task in tasks]
    try:
        while left:
            idle = True
            for task in list(left):
                denormals_keep()
                task.since = time.monotonic()
                waits = task.switch()
                task.spent += time.monotonic() - task.since
                if task.dead:
                    left.remove(task)
                idle = idle and waits is True
            if idle and left:
                time.sleep(POLL)
    finally:
        for task in left:
            task.throw()


def pause(waiting: bool = False) -> None:
    """Let the other tasks go on; `waiting` where there is nothing to do before another process has done something."""
    task = getcurrent()
    if isinstance(task, _Task):
        task.parent.switch(waiting)  # type: ignore[union-attr]
    elif waiting:
        time.sleep(POLL)


def clock() -> float:
    """[s] of the turns of this task; of the world outside of tasks."""
    task = getcurrent()
    return task.spent + time.monotonic() - task.since if isinstance(task, _Task) else time.monotonic()
