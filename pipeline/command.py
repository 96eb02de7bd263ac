"""What the commands print: tables and JSON on stdout, everything else on stderr.

In: parsed arguments. Out: exit through exceptions of shot/errors.py. The work itself is in run, plan, store and doctor.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.framespec import FrameSpecError, frames_parse
from shot.errors import DemolishError, MissingResource, ShotError, nearest
from shot.load import Loaded, param_rows, shot_load


class UsageError(DemolishError):
    """An argument that makes no sense."""

    exit_code = 2


def say(value: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(value, indent=1, sort_keys=True, default=str))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; plain when piped."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(shown)


def loaded_frames(
    shot: str, overrides: Sequence[str], bundled: Path, frames: str | None, preview: bool,
) -> tuple[Loaded, list[int]]:
    """The shot (or its preview) and the frames asked for."""
    from pipeline.preview import preview_of

    loaded = shot_load(shot, overrides, bundled)
    wanted = frames_parse(frames, loaded.shot.frame_range) if frames else None
    if preview:
        loaded, thinned = preview_of(loaded)
        wanted = wanted or thinned
    return loaded, wanted or list(loaded.shot.frame_range)


def run_command(
    shot: str, overrides: Sequence[str], bundled: Path, frames: str | None, last: str, preview: bool, dry_run: bool,
    as_json: bool, out: Path | None, quiet: bool,
) -> None:
    """`demolish run`."""
    from pipeline.progress import reporter
    from pipeline.run import run
    from pipeline.stages import STAGE_NAMES

    if last not in STAGE_NAMES:
        raise UsageError(f"--to {last}: want one of {', '.join(STAGE_NAMES)}{nearest(last, STAGE_NAMES)}")
    loaded, wanted = loaded_frames(shot, overrides, bundled, frames, preview)
    if dry_run:
        _dry_run(loaded, wanted, last, as_json)
        return
    with reporter(quiet) as told:
        take = "preview" if preview and out is None else ""
        done = run(loaded, wanted, last, out, reporter=told, take=take, picture_first=preview and last == "deliver")
    if as_json:
        say({"folder": str(done.folder), "frames": len(done.frames), "keys": done.keys, "seconds": done.seconds,
             "from_store": done.hits, "delivered": done.delivered})
    elif last == "deliver":
        print(f"{done.folder}")
        for name in ("movie", "sheet", "energy_plot"):
            if done.delivered.get(name):
                print(f"  {done.delivered[name]}")


def _dry_run(loaded: Loaded, wanted: list[int], last: str, as_json: bool) -> None:
    from pipeline.plan import plan
    from pipeline.store import cache_folder

    rows = []
    for step in plan(loaded, wanted, last, cache_folder()):
        hit = step.entry.hit(step.frames, lambda line: None, deep=False)
        have = len(step.frames) if hit else sum(
            (step.entry.partial / f"frame.{f:04d}.digest").exists() for f in step.frames) if step.entry.partial.is_dir() else 0
        todo = 0 if hit else max(len(step.frames) - have, 1)
        try:
            timing = json.loads((step.entry.root / step.stage.name / "timing.json").read_text())
        except (OSError, ValueError):
            timing = None
        rows.append({
            "stage": step.stage.name, "key": step.entry.key, "state": "hit" if hit else "partial" if have else "miss", "frames": todo,
            "seconds": round(timing["seconds"] * todo, 1) if timing else None, "bytes": int(timing["bytes"] * todo) if timing else None,
        })
    if as_json:
        say(rows)
        return
    table(
        f"{loaded.path}: {len(wanted)} frames", ("stage", "key", "state", "to do", "time", "disk"),
        [(r["stage"], r["key"], r["state"], str(r["frames"]),
          "?" if r["seconds"] is None else f"{r['seconds']:.0f} s",
          "?" if r["bytes"] is None else f"{r['bytes'] / 1e6:.0f} MB") for r in rows],
    )


def cache_ls_command(as_json: bool) -> None:
    """`demolish cache ls`."""
    from pipeline.store import cache_folder, store_list

    rows = store_list(cache_folder())
    if as_json:
        say([asdict(row) for row in rows])
        return
    table(
        f"{cache_folder()}: {sum(r.size for r in rows) / 1e9:.2f} GB", ("stage", "key", "state", "frames", "size", "unused for"),
        [(r.stage, r.key, r.state, str(r.frames), f"{r.size / 1e6:.1f} MB", f"{r.age / 3600:.1f} h") for r in rows],
    )


def cache_prune_command(days: float, keep: str | None) -> None:
    """`demolish cache prune`."""
    from pipeline.store import cache_folder, store_prune

    count, freed = store_prune(cache_folder(), days * 86400.0, _size(keep) if keep else None)
    print(f"deleted {count} results, {freed / 1e6:.1f} MB")


def _size(text: str) -> float:
    match = re.fullmatch(r"([0-9.]+)\s*([kKmMgGtT]?)[bB]?", text.strip())
    if not match:
        raise UsageError(f"--keep {text}: want a size such as 500MB or 20GB")
    return float(match[1]) * {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}[match[2].lower()]


def doctor_command(as_json: bool) -> None:
    """`demolish doctor`; exit 5 if the default job could not run."""
    from pipeline.doctor import doctor

    rows = doctor()
    if as_json:
        say([asdict(row) for row in rows])
    else:
        table("", ("", "what", "found", "what to do"),
              [("ok" if r.ok else "MISSING" if r.needed else "-", r.what, r.figure, r.remedy) for r in rows])
    missing = [row.what for row in rows if row.needed and not row.ok]
    if missing:
        raise MissingResource(f"missing for the default job: {', '.join(missing)}")


def shots_command(bundled: Path) -> None:
    """`demolish shots`."""
    rows = []
    for path in sorted(bundled.glob("*.toml")):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        rows.append((path.stem, first.lstrip("# ") if first.startswith("#") else ""))
    table("", ("shot", "what it shows"), rows)


def params_command(key: str | None, as_json: bool) -> None:
    """`demolish params [KEY]`."""
    rows = list(param_rows())
    if key:
        chosen = [row for row in rows if row["key"] == key or row["key"].startswith(f"{key}.")]
        if not chosen:
            parts = [row["key"].split(".") for row in rows]
            known = dict.fromkeys(".".join(names[:depth]) for names in parts for depth in range(1, len(names) + 1))  # tables too
            raise ShotError(f"{key}: no such parameter{nearest(key, known)}")
        rows = chosen
    if as_json:
        say(rows)
        return
    table("", ("parameter", "type", "default", "unit", "range", "what it does"),
          [(r["key"], r["type"], r["default"], r["unit"], r["range"], r["text"]) for r in rows])


__all__ = ["FrameSpecError", "cache_ls_command", "cache_prune_command", "doctor_command", "params_command", "run_command", "shots_command"]
