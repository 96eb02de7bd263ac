"""The main job: a shot in, finished frames out, everything already made taken from the store.

In: a loaded shot, frames, the last stage, folders. Out: a `Run` with the take's folder and figures. A killed run leaves
partial results; running again goes on from the last finished frame and ends bit-identical. A result found damaged while it is
read is demoted and made again. A full disk, an unwritable folder or a missing device is one clear error.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.digest import digest, library_versions
from pipeline.plan import Step, plan, shot_hash
from pipeline.progress import Quiet, Reporter
from pipeline.relay import Relay, Unmended, followed, relay_groups
from pipeline.store import Entry, cache_folder, folder_writable
from pipeline.turns import clock, pause, take_turns
from shot.device import denormals_keep, taichi_open
from shot.errors import FramesFailed, MissingResource
from shot.frames import DamagedFile, file_publish
from shot.load import Loaded
from shot.params import Shot

os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "0")  # its banner would go to stdout, where --json goes
RETRIES = 3  # times a damaged input is made again before the run gives up


@dataclass
class Run:
    """A finished run: where people look, and its figures."""

    folder: Path
    shot: Shot
    frames: list[int]
    keys: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    delivered: dict[str, Any] = field(default_factory=dict)


def run(
    loaded: Loaded, frames: Sequence[int] | None = None, last: str = "deliver", out: Path | None = None,
    root: Path | None = None, reporter: Reporter | None = None, take: str = "",
    only: Sequence[str] | None = None, picture_first: bool = False,
) -> Run:
    """Make the frames of a shot up to the stage `last`.

    `frames` None is all of them, `root` None the user's cache folder, `out` None is runs/<shot>/<take>. `picture_first` delivers the
    first frame before the rest. `only` makes these stages and waits for the others, which other processes make (pipeline/relay.py)."""
    reporter = reporter or Quiet()
    root = root or cache_folder()
    wanted = sorted(frames) if frames is not None else list(loaded.shot.frame_range)
    if only is None:  # a child's parent has tried, and a child that is ended must leave no probe behind
        folder_writable(root, "cache folder")
    steps = plan(loaded, wanted, last, root)
    folder = out or take_folder(Path("runs"), loaded.shot, take)
    if last == "deliver" and only is None:
        folder_writable(folder, "output folder")
    done = Run(folder, loaded.shot, wanted, keys={step.stage.name: step.entry.key for step in steps})
    groups = relay_groups(steps) if only is None else []
    if picture_first and not any(group[0].stage.name == "draw" for group in groups):
        run(loaded, wanted[:1], last, folder, root, reporter)
        picture_first = False
    try:
        if only is None:
            _stages_run(steps, groups, loaded, done, reporter, root, last, picture_first)
        else:
            _stages_join(steps, only, loaded, done, reporter)
            if last == "deliver":
                _deliver(loaded, done, reporter)
        if last == "deliver":
            write_run_json(loaded, done, provenance(loaded, done))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MissingResource(
                f"disk full{f' while writing {error.filename}' if error.filename else ''}; what is finished is kept: free some space "
                "(`demolish cache prune`) and run again"
            ) from None
        raise
    return done


def take_folder(runs: Path, shot: Shot, take: str = "") -> Path:
    """runs/<shot>/<take>; without a name, the take that already holds this very shot, or the next number."""
    base = runs / shot.name
    if take:
        return base / take
    wanted = shot_hash(shot)
    taken = sorted(p for p in base.glob("t[0-9][0-9][0-9]") if p.is_dir())
    for path in reversed(taken):
        try:
            if json.loads((path / "run.json").read_text())["shot_hash"] == wanted:
                return path
        except (OSError, ValueError, KeyError):
            continue
    return base / f"t{int(taken[-1].name[1:]) + 1 if taken else 1:03d}"


def _stages_run(
    steps: list[Step], groups: list[list[Step]], loaded: Loaded, done: Run, reporter: Reporter, root: Path, last: str, picture_first: bool
) -> None:
    """All steps, one after the other; what children make, one for each of `groups`, is followed while they make it."""
    relay, theirs = None, {}
    try:
        for step in steps:
            if groups and relay is None and step.stage.span != "static":
                relay = Relay(groups, reporter)
                reporter = relay.watched
                if picture_first:
                    relay.first_picture(loaded, done.frames[0], steps, root, done.folder)
                theirs = relay.go(loaded, done.frames, root, done.folder)
            if step.stage.name in theirs:
                done.results[step.stage.name] = theirs[step.stage.name]
            else:
                _stage_run(step, steps, loaded, done, reporter)
        if last == "deliver":
            take_turns([partial(_delivered, steps, loaded, done, reporter)])  # its clock stands still while it waits for a picture
        if relay is not None:
            relay.join()
            done.seconds.update(relay.seconds)
            done.hits += relay.hits
    except Unmended as error:
        if relay is not None:
            relay.close()
            relay = None
        reporter.line(f"{error}; making it again")
        _stages_run(steps, [], loaded, done, reporter, root, last, picture_first=False)
    finally:
        if relay is not None:
            relay.close()


def _stages_join(steps: list[Step], only: Sequence[str], loaded: Loaded, done: Run, reporter: Reporter) -> None:
    """Make the stages `only`, in turns; the others are being made by other processes."""
    done.results.update({step.stage.name: followed(step) for step in steps})
    mine = [step for step in steps if step.stage.name in only]
    take_turns([partial(_stage_run, step, steps, loaded, done, reporter.beside(), mend=False) for step in mine])


def _stage_run(
    step: Step, steps: list[Step], loaded: Loaded, done: Run, reporter: Reporter, attempt: int = 0, mend: bool = True
) -> None:  # fmt: skip
    """Open a stage's result from the store, or make what is missing of it. Raises DamagedFile for an input, unless `mend`."""
    stage, entry = step.stage, step.entry
    if not entry.hit(step.frames, reporter.line):
        began = clock()
        try:
            _stage_make(step, loaded, done, reporter)
        except DamagedFile as error:
            if not mend:
                raise
            _mended(error, steps, steps[: steps.index(step)], loaded, done, reporter, attempt)
            _stage_run(step, steps, loaded, done, reporter, attempt + 1)
            return
        done.seconds[stage.name] = done.seconds.get(stage.name, 0.0) + clock() - began
    elif stage.name not in done.hits and stage.name not in done.seconds:
        done.hits.append(stage.name)
        reporter.line(f"{stage.name}: from the store ({entry.key})")
    os.utime(entry.whole)
    done.results[stage.name] = stage.open(entry.folder())


def _mended(
    error: DamagedFile, steps: list[Step], before: list[Step], loaded: Loaded, done: Run, reporter: Reporter, attempt: int
) -> None:  # fmt: skip
    """Make the result that `error` names again, and those of `before` that come after it. Raises FramesFailed where that is no use."""
    owner = next((step for step in before if f"{step.entry.whole}{os.sep}" in str(error)), None)
    if owner is None:
        raise FramesFailed(f"{error}; it cannot be made again") from error
    if attempt >= RETRIES:
        raise FramesFailed(f"{error}; it is damaged each time it is made: check the disk") from error
    reporter.line(f"{owner.stage.name}: {error}; making it again")
    owner.entry.demote()
    for again in before[before.index(owner) :]:
        _stage_run(again, steps, loaded, done, reporter, attempt + 1)


def _stage_make(step: Step, loaded: Loaded, done: Run, reporter: Reporter) -> None:
    from pipeline.stages import Work

    stage, entry = step.stage, step.entry
    denormals_keep()  # a wedge's second take rounds as its first, though a network ran in between
    with entry.writing(reporter.line):
        if entry.hit(step.frames, reporter.line):  # another process made it while this one waited
            return
        folder = entry.open_partial()
        left = {frame for frame in step.frames if not folder.has_frame(frame)}
        have, todo = len(step.frames) - len(left), max(len(left), 1)
        reporter.stage(stage.name, len(left))
        if have:
            reporter.line(f"{stage.name}: going on after {have} finished frames")

        def advance(frame: int) -> None:
            """Tell each missing frame once: a stage that goes on from a state reports, or makes again, some that are there."""
            if frame in left or not step.frames:
                left.discard(frame)
                reporter.advance(frame)
            pause()

        if "taichi" in stage.libraries:
            taichi_open()
        began = clock()
        stage.make(Work(step.shot, loaded.base, folder, step.frames, advance), done.results)
        entry.publish(step.frames, step.made_from)
        _timing_note(entry, (clock() - began) / todo)


def _timing_note(entry: Entry, seconds: float) -> None:
    """Remember seconds and bytes per frame of a stage on this machine, for the estimates of a dry run."""
    manifest = entry.manifest() or {"files": {}, "frames": []}
    size = sum(size for size, _ in manifest["files"].values()) / max(len(manifest["frames"]), 1)
    file_publish(entry.root / entry.stage / "timing.json", json.dumps({"seconds": seconds, "bytes": size}).encode())


def _delivered(steps: list[Step], loaded: Loaded, done: Run, reporter: Reporter, attempt: int = 0) -> None:
    """Deliver; what turns out to be damaged is made again, and what failed for it is delivered then."""
    try:
        _deliver(loaded, done, reporter)
    except (DamagedFile, FramesFailed) as error:
        damage = error if isinstance(error, DamagedFile) else error.__cause__
        if not isinstance(damage, DamagedFile):
            raise
        _mended(damage, steps, steps, loaded, done, reporter, attempt)
        _delivered(steps, loaded, done, reporter, attempt + 1)


def _deliver(loaded: Loaded, done: Run, reporter: Reporter) -> None:
    denormals_keep()
    from pipeline.digest import shot_trimmed
    from pipeline.stages import DELIVERY, pieces
    from render.deliver import deliver

    shot = shot_trimmed(loaded.shot, DELIVERY)
    shot = shot.model_copy(update={"name": loaded.shot.name, "frames": loaded.shot.frames})
    reporter.stage("deliver", len(done.frames))
    began = clock()
    fragments = pieces(done.results)
    done.delivered = deliver(
        shot, fragments, done.results["draw"], done.results.get("refine"), done.folder, done.frames, reporter.advance,
        provenance(loaded, done),
    )
    if "simulate" in done.results:
        from render.energy_plot import energy_plot

        done.delivered["energy_plot"] = str(energy_plot(done.results["simulate"], done.folder / "energy.png", loaded.shot))
    done.seconds["deliver"] = clock() - began


def provenance(loaded: Loaded, done: Run) -> dict[str, str]:
    """What every delivered file carries: the same for the same shot, code and device, whatever the host and hour."""
    models = {}
    for name in ("upsample", "refine"):
        if name in done.keys:
            stage = next(s for s in _stages() if s.name == name)
            from pipeline.stages import asset_digests

            models.update({f"{name}_{k}": v for k, v in asset_digests(stage.assets(loaded.shot, loaded.base)).items()})
    from pipeline.plan import device_of

    return {
        "version": metadata.version("demolish"),
        "shot": loaded.shot.name,
        "shot_hash": shot_hash(loaded.shot),
        "seed": str(loaded.shot.seed),
        "device": device_of("refine", loaded.shot),
        "models": json.dumps(models, sort_keys=True),
        "keys": digest(done.keys),
    }


def _stages():
    from pipeline.stages import STAGES

    return STAGES


def write_run_json(loaded: Loaded, done: Run, facts: dict[str, str]) -> None:
    """run.json: provenance, host, time, command line, keys and seconds per stage; stages taken from the store keep their old seconds."""
    path = done.folder / "run.json"
    try:
        before = json.loads(path.read_text())
    except (OSError, ValueError):
        before = {}
    seconds = {**before.get("seconds", {}), **{k: round(v, 3) for k, v in done.seconds.items()}}
    report = {
        **facts,
        "models": json.loads(facts["models"]),
        "seed": loaded.shot.seed,
        "frames": [done.frames[0], done.frames[-1], len(done.frames)],
        "stage_keys": done.keys,
        "seconds": seconds,
        "from_store": done.hits,
        "libraries": library_versions(("numpy", "scipy", "taichi", "pyrender", "onnxruntime", "OpenEXR", "manifold3d")),
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "cores": os.cpu_count(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "delivered": done.delivered,
        "shot_values": loaded.shot.model_dump(mode="json"),
    }
    file_publish(path, json.dumps(report, indent=1, sort_keys=True, default=str).encode())
