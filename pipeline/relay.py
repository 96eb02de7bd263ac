"""Several processes on one shot: each makes some of the stages, from the frames that the others have made so far.

In: the steps of a run that come after the simulation. Out: the same results in the store as one process would make, one after the
other: a child is `run(..., only=<its stages>)`; a stage reads the partial folders of those before it and waits for what is missing.
Dust needs one core, drawing waits for its own pixels: side by side they take two thirds of the time. Children start with the simulation and
load their libraries meanwhile. They speak through pipes and die with their parent, even if that is killed. They do not mend damaged
results: where one stops for that, the ordinary walk through the steps goes on alone.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline.plan import Step
from pipeline.progress import Reporter
from pipeline.store import Entry
from shot.errors import FramesFailed
from shot.frames import Arrays, DamagedFile, FrameFolder
from shot.load import Loaded

GROUPS = ("dust",), ("scatter", "upsample"), ("draw",), ("refine",)  # the last one that is wanted stays with the parent
FRAMES_MIN = 24  # frames to make, below which starting processes takes longer than it saves
POLL = 0.01  # [s] between two looks for a frame


def relay_groups(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps of each child, or none where more processes are no use: one core, or not much to make."""
    step = {step.stage.name: step for step in steps}
    groups = [[step[name] for name in names if name in step] for names in GROUPS]
    groups = [group for group in groups if max((missing(one) for one in group), default=0) >= FRAMES_MIN]
    return groups[:-1] if "draw" in step and (os.cpu_count() or 1) > 1 else []


def missing(step: Step) -> int:
    """Frames that a step still has to make; looks at names only."""
    if step.entry.hit(step.frames, lambda line: None, deep=False):
        return 0
    return sum(not (step.entry.partial / f"frame.{f:04d}.digest").exists() for f in step.frames)


@dataclass
class _Child:
    process: BaseProcess
    pipe: Connection
    steps: list[Step]


class Relay:
    """The child processes of a run."""

    def __init__(self, loaded: Loaded, frames: Sequence[int], groups: Sequence[Sequence[Step]], root: Path, reporter: Reporter):
        context = multiprocessing.get_context("spawn")  # a fork would share Taichi's threads
        self.seconds: dict[str, float] = {}
        self._reporter = reporter
        self._children: list[_Child] = []
        for group in groups:
            here, there = context.Pipe()
            names = [step.stage.name for step in group]
            modules = [step.stage.module for step in group]
            process = context.Process(target=_child, args=(there, loaded, list(frames), names, modules, root), daemon=True)
            process.start()
            there.close()
            self._children.append(_Child(process, here, list(group)))

    def go(self) -> dict[str, Any]:
        """Let the children begin; their stages' results, whose frames are waited for."""
        for child in self._children:
            with contextlib.suppress(OSError):  # it is dead: `check` will say so
                child.pipe.send("go")
        return {step.stage.name: followed(step, self.check) for child in self._children for step in child.steps}

    def check(self) -> bool:
        """Tell what the children have told; True while any of them works. Raises what one failed with."""
        running = False
        for child in self._children:
            alive = child.process.is_alive()  # asked first: what it said before it ended is in the pipe afterwards
            running |= alive
            try:
                while child.pipe.poll():
                    self._hear(*child.pipe.recv())
            except (EOFError, OSError):  # it died while it spoke
                pass
            if not alive and child.process.exitcode:
                names = ", ".join(step.stage.name for step in child.steps)
                raise FramesFailed(f"the process that makes {names} ended with {child.process.exitcode}; run again to go on")
        return running

    def _hear(self, kind: str, said: Any) -> None:
        if kind == "line":
            self._reporter.line(said)
        elif kind == "seconds":
            self.seconds.update(said)
        else:
            raise said

    def join(self) -> None:
        """Wait until the children have done their part. Raises what one failed with."""
        while self.check():
            time.sleep(POLL)

    def close(self) -> None:
        """End the children, done or not."""
        for child in self._children:
            if child.process.is_alive():
                child.process.terminate()
        for child in self._children:
            child.process.join()
            child.pipe.close()


def followed(step: Step, check: Callable[[], object] = lambda: None) -> Any:
    """The result of a step, whole or in the making by another process; `check` raises if that failed."""
    return step.stage.open(step.entry.folder() if step.entry.whole.is_dir() else Followed(step.entry, check))


class Followed(FrameFolder):
    """The folder of a result in the making: what is not there yet is waited for."""

    def __init__(self, entry: Entry, check: Callable[[], object]):
        self.entry, self.check = entry, check
        self.path = entry.partial

    def get(self, name: str) -> Arrays:
        """Arrays under a name. Raises DamagedFile where they are missing from the finished result."""
        while True:
            whole = self.entry.whole.is_dir()  # asked first: what it held when it was renamed is there afterwards
            self.path = self.entry.whole if whole else self.entry.partial
            if whole or (self.path / f"{name}.digest").exists():
                try:
                    return super().get(name)
                except DamagedFile:  # of an earlier run and about to be made again, or renamed a moment ago
                    if whole:
                        raise
            self.check()
            time.sleep(POLL)


class _Told:
    """A child's reporter: a line when a stage starts and ends."""

    def __init__(self, pipe: Connection):
        self._pipe, self._name, self._left, self._began = pipe, "", 0, 0.0

    def stage(self, name: str, total: int) -> None:
        self._name, self._left, self._began = name, total, time.monotonic()
        self.line(f"{name}: {total} to do, beside")

    def advance(self, frame: int) -> None:
        self._left -= 1
        if not self._left:
            self.line(f"{self._name}: {frame}, done in {time.monotonic() - self._began:.0f} s")

    def line(self, text: str) -> None:
        self._pipe.send(("line", text))


def _child(pipe: Connection, loaded: Loaded, frames: list[int], names: list[str], modules: list[str], root: Path) -> None:
    """Load what the stages need, wait for the word, make them."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves its locks in order
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C too, and ends this process
    threading.Thread(target=_die_with_parent, daemon=True).start()
    from pipeline.run import run
    from shot.device import taichi_open

    try:
        for module in modules:
            importlib.import_module(module)
        taichi_open()
        pipe.recv()
        done = run(loaded, frames, names[-1], root=root, reporter=_Told(pipe), only=names)
        pipe.send(("seconds", done.seconds))
    except EOFError:  # the parent has no use for it
        return
    except Exception as error:
        try:
            pipe.send(("error", error))
        except (TypeError, ValueError, AttributeError):  # it cannot be pickled
            pipe.send(("error", FramesFailed(f"{type(error).__name__}: {error}")))
        sys.exit(1)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
