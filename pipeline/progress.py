"""What a run tells people while it works: a rich bar on a terminal, plain lines elsewhere, always on stderr.

Both name the stage, the frame and the time left, estimated from the frames done in this stage. `Quiet` tells nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY = 10.0  # [s] between plain progress lines


class Reporter(Protocol):
    """Where a run reports."""

    def stage(self, name: str, total: int) -> None:
        """A stage starts; `total` frames are to come, 0 where the stage counts units of its own, whose number is not known."""
        ...

    def advance(self, frame: int) -> None:
        """A frame or unit of the stage is done."""
        ...

    def line(self, text: str) -> None:
        """One line for people: a hit, a warning, a result."""
        ...

    def beside(self) -> Reporter:
        """Another one in the same place, for stages that run at the same time."""
        ...


class Quiet:
    """Reports nothing."""

    def stage(self, name: str, total: int) -> None: ...

    def advance(self, frame: int) -> None: ...

    def line(self, text: str) -> None: ...

    def beside(self) -> Reporter:
        return self


class Plain:
    """One line when a stage starts and ends, and every few seconds between."""

    def __init__(self) -> None:
        self.name, self.total, self.done = "", 0, 0
        self.began = self.told = 0.0

    def stage(self, name: str, total: int) -> None:
        self.name, self.total, self.done = name, total, 0
        self.began = self.told = time.monotonic()
        self.line(f"{name}: {total} to do" if total else f"{name}")

    def advance(self, frame: int) -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.told >= PLAIN_EVERY or self.done == self.total:
            self.told = now
            spent = now - self.began
            left = spent / self.done * max(self.total - self.done, 0)
            known = f"{frame} ({self.done}/{self.total}), {spent:.0f} s gone, {left:.0f} s left"
            self.line(f"{self.name}: {known if self.total else f'{self.done} done, {spent:.0f} s gone'}")

    def line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def beside(self) -> Reporter:
        return Plain()


class Bar:
    """A rich bar per stage."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.task = progress, None

    def stage(self, name: str, total: int) -> None:
        self.task = self.progress.add_task(f"{name:9}", total=total or None, frame="")

    def advance(self, frame: int) -> None:
        if self.task is not None:
            self.progress.update(self.task, advance=1, frame=str(frame))

    def line(self, text: str) -> None:
        self.progress.console.print(text, highlight=False)

    def beside(self) -> Reporter:
        return Bar(self.progress)


@contextmanager
def reporter(quiet: bool = False) -> Iterator[Reporter]:
    """The right reporter for where stderr goes."""
    if quiet:
        yield Quiet()
    elif sys.stderr.isatty():
        columns = (
            TextColumn("[bold]{task.description}"), TextColumn("{task.fields[frame]:>5}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            yield Bar(progress)
    else:
        yield Plain()
