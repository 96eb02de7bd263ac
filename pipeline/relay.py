"""Several processes on one shot: each makes some of the stages, from the frames that the others have made so far.

In: the steps of a run. Out: the same results in the store as one process would make, one after the other: a child is
`run(..., only=<its stages>)`; a stage reads the partial folders of those before it and waits for what is missing. The parent simulates
and then delivers; all that lies between follows the simulation frame by frame, on the cores that it leaves idle. The stages of
one child take turns (turns.py), so that a process is worth its memory. Children speak through pipes and die with their parent, even
if that is killed. They do not mend damaged results: where one stops for that, the ordinary walk through the steps goes on alone.
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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline.plan import Step
from pipeline.progress import Quiet, Reporter
from pipeline.store import Entry
from pipeline.turns import pause
from shot.errors import FramesFailed
from shot.frames import Arrays, DamagedFile, FrameFolder
from shot.load import Loaded

GROUPS = ("shed", "scatter", "dust", "upsample"), ("draw",), ("refine",)  # a child each
FRAMES_MIN = 24  # frames to make, below which starting processes takes longer than it saves
NICE = 5  # of children: the simulation, which all the others wait for, goes first
GRACE = 10.0  # [s] in which a child that is told to end may finish its file and drop its locks; then it is killed


@dataclass(frozen=True)
class Job:
    """What a child shall make: `run` without its reporter."""

    loaded: Loaded
    frames: list[int]
    last: str
    only: list[str]
    root: Path
    out: Path
    quiet: bool = False


@dataclass
class Child:
    """A process, the way to it, and the stages it is for."""

    process: BaseProcess
    pipe: Connection
    steps: list[Step]
    reporters: dict[int, Reporter] = field(default_factory=dict)  # by what the child calls them
    jobs: int = 0  # not yet done
    listener: threading.Thread = field(init=False)


def relay_groups(steps: Sequence[Step]) -> list[list[Step]]:
    """Steps of each child, or none where more processes are no use: one core, or not much to make."""
    step = {step.stage.name: step for step in steps}
    groups = [[step[name] for name in names if name in step] for names in GROUPS]
    groups = [group for group in groups if max((missing(one) for one in group), default=0) >= FRAMES_MIN]
    busy = "simulate" in step and missing(step["simulate"]) >= FRAMES_MIN
    return groups if len(groups) + busy > 1 and (os.cpu_count() or 1) > 1 else []


def missing(step: Step) -> int:
    """Frames that a step still has to make, by their names: what is damaged shows when the stage begins."""
    if _complete(step.entry, step.frames):
        return 0
    folder = step.entry.whole if step.entry.whole.is_dir() else step.entry.partial
    return sum(not (folder / f"frame.{f:04d}.digest").exists() for f in step.frames)


class Relay:
    """The child processes of a run."""

    def __init__(self, groups: Sequence[Sequence[Step]], reporter: Reporter):
        context = multiprocessing.get_context("spawn")  # a fork would share Taichi's threads
        self.seconds: dict[str, float] = {}
        self.hits: list[str] = []
        self.children: list[Child] = []
        self._error: BaseException | None = None
        self._reporter = reporter
        self.watched = Watched(reporter, self.check)
        for group in groups:
            here, there = context.Pipe()
            process = context.Process(target=_child, args=(there, [step.stage.module for step in group]), daemon=True)
            process.start()
            there.close()
            child = Child(process, here, list(group))
            child.listener = threading.Thread(target=self._listen, args=(child,), daemon=True)
            child.listener.start()
            self.children.append(child)

    def first_picture(self, loaded: Loaded, frame: int, steps: Sequence[Step], root: Path, out: Path) -> None:
        """Let the child that draws deliver this frame before it draws the others."""
        only = [step.stage.name for step in steps if step.stage.name in ("draw", "refine")]
        self._send(next(child for child in self.children if child.steps[0].stage.name == "draw"),
                   Job(loaded, [frame], "deliver", only, root, out, quiet=True))

    def go(self, loaded: Loaded, frames: Sequence[int], root: Path, out: Path) -> dict[str, Any]:
        """Let the children make their stages; the results, whose frames are waited for."""
        for child in self.children:
            names = [step.stage.name for step in child.steps]
            self._send(child, Job(loaded, list(frames), names[-1], names, root, out))
        return {step.stage.name: followed(step, self.check) for child in self.children for step in child.steps}

    def check(self) -> None:
        """Raise what a child failed with; Unmended where it met a damaged result."""
        for child in self.children:
            if self._error is None and child.jobs and not child.process.is_alive() and not child.listener.is_alive():
                names = ", ".join(step.stage.name for step in child.steps)
                self._error = FramesFailed(
                    f"the process that makes {names} ended with {child.process.exitcode}; run again to go on"
                )
        if isinstance(self._error, DamagedFile):
            raise Unmended(str(self._error))
        if self._error is not None:
            raise self._error

    def join(self) -> None:
        """Wait until the children have done their part. Raises as `check` does."""
        while any(child.jobs for child in self.children):
            self.check()
            pause(waiting=True)
        self.check()

    def close(self) -> None:
        """End the children, done or not; one that does not hear is killed: what it leaves is what kill -9 leaves, and is mended."""
        for child in self.children:
            child.process.terminate()
        until = time.monotonic() + GRACE
        for child in self.children:
            child.process.join(max(until - time.monotonic(), 0.0))
            child.process.kill()
            child.process.join()
            child.listener.join()
            child.pipe.close()

    def _send(self, child: Child, job: Job) -> None:
        child.jobs += 1
        with contextlib.suppress(OSError):  # it is dead: `check` will say so
            child.pipe.send(job)

    def _listen(self, child: Child) -> None:
        """Pass on what a child tells until its end of the pipe is closed. A reporter that fails (nobody reads its output) ends the run."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, *said = child.pipe.recv()
                if kind == "told":
                    voice, method, *said = said
                    try:
                        if voice not in child.reporters:
                            child.reporters[voice] = self._reporter.beside()
                        getattr(child.reporters[voice], method)(*said)
                    except Exception as error:
                        self._error = self._error or error
                        return
                elif kind == "error":
                    self._error = self._error or said[0]
                else:
                    self.seconds.update(said[0])
                    self.hits += said[1]
                    child.jobs -= 1


class Watched:
    """A reporter for the parent, whose work ends when a child fails."""

    def __init__(self, reporter: Reporter, check: Callable[[], object]):
        self._check = check
        self.stage, self.line, self._advance, self.beside = reporter.stage, reporter.line, reporter.advance, reporter.beside

    def advance(self, frame: int) -> None:
        self._check()
        self._advance(frame)


class Unmended(Exception):
    """A child met a damaged result."""


def followed(step: Step, check: Callable[[], object] = lambda: None) -> Any:
    """The result of a step, whole or in the making by another process; `check` raises if that failed."""
    return step.stage.open(step.entry.folder() if _complete(step.entry, step.frames) else Followed(step, check))


def _complete(entry: Entry, frames: Iterable[int]) -> bool:
    """True if the result is whole and knows of the frames; one that lacks some is about to be reopened."""
    manifest = entry.manifest()
    return manifest is not None and set(frames) <= set(manifest["frames"])


class Followed(FrameFolder):
    """The folder of a result in the making: what is not there yet is waited for, unless it is a frame that nobody will make."""

    def __init__(self, step: Step, check: Callable[[], object]):
        self.entry, self.check = step.entry, check
        self.wanted = step.frames
        self.frames = frozenset(f"frame.{frame:04d}" for frame in step.frames)
        self.path = step.entry.partial

    def get(self, name: str) -> Arrays:
        """Arrays under a name. Raises DamagedFile where they are missing from the finished result."""
        while True:
            whole = self.entry.whole.is_dir()  # asked first: what it held when it was renamed is there afterwards
            self.path = self.entry.whole if whole else self.entry.partial
            unmade = name.startswith("frame.") and name not in self.frames
            if whole or (self.path / f"{name}.digest").exists() or unmade:
                try:
                    return super().get(name)
                except DamagedFile:  # of an earlier run and about to be made again, or renamed a moment ago
                    if unmade or (whole and _complete(self.entry, self.wanted)):
                        raise
            self.check()
            pause(waiting=True)

    def has(self, name: str) -> bool:
        """True if the arrays are there; what a stage makes besides frames it makes before the first."""
        self.get(min(self.frames))
        return FrameFolder(self.path).has(name)


class _Told:
    """A child's reporter: passes all on to the parent, under a number for each stage that takes part."""

    def __init__(self, pipe: Connection, voices: Iterator[int]):
        self._pipe, self._voices, self._voice = pipe, voices, next(voices)

    def stage(self, name: str, total: int) -> None:
        self._pipe.send(("told", self._voice, "stage", name, total))

    def advance(self, frame: int) -> None:
        self._pipe.send(("told", self._voice, "advance", frame))

    def line(self, text: str) -> None:
        self._pipe.send(("told", self._voice, "line", text))

    def beside(self) -> Reporter:
        return _Told(self._pipe, self._voices)


def _child(pipe: Connection, modules: list[str]) -> None:
    """Load what the stages need, then do jobs until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C too, and ends this process
    threading.Thread(target=_die_with_parent, daemon=True).start()
    from pipeline.run import run
    from shot.device import taichi_open

    os.nice(NICE)
    told = _Told(pipe, count())
    try:
        for module in modules:
            importlib.import_module(module)
        taichi_open()
        # Leaves its locks in order. Not before: Python drops what is raised in a callback of the import system, so that a child told to
        # end while it imports would go on for ever.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        while True:
            job: Job = pipe.recv()
            done = run(job.loaded, job.frames, job.last, out=job.out, root=job.root, reporter=Quiet() if job.quiet else told, only=job.only)
            if job.quiet:
                told.line(f"the first picture is in {job.out}")
            pipe.send(("done", {}, []) if job.quiet else ("done", done.seconds, done.hits))
    except EOFError:  # nothing more to do
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
