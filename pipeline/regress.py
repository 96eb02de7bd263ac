"""Regression: tiny shots against their references, by state hash, figures and pictures.

In: a suite, a folder with `suite.toml` (shots, frames, last stage) and one folder of references per shot: `metrics.json` and one PNG
per kept frame and guide. Out: checks, a table, an HTML report (`report.py`), exit code 6 through RegressionFailed if one fails.
The store is bypassed: everything is made anew in a temporary folder, so a stale cache can hide nothing.

Three grades, because a collapse is chaotic and "same shot, same bits" holds on one instruction set and one set of versions:
where the machine's signature is the reference's, hashes and figures must be equal and so must pictures, but for one pixel in a
thousand; on another one, figures must lie in the bands of BANDS and only the first frame, which no motion has touched, is compared
as a picture, with room for another rasteriser's edges; later frames are then shown and not judged. Pictures are compared as
`idiff` does (OpenImageIO): a pixel fails past a threshold, an image by its share of failed pixels or by its mean error.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.digest import library_versions, processor
from pipeline.measure import Metrics, metrics, pictures
from pipeline.plan import gl_stack
from pipeline.progress import Reporter, reporter
from pipeline.run import Run, run
from shot.errors import RegressionFailed, ShotError
from shot.frames import file_publish
from shot.load import shot_load

SAME = 1e-6  # relative: figures on the machine of the reference; sums of f32 arrays printed as f64
BANDS: dict[str, tuple[float, float]] = {  # relative and absolute room on another machine
    "fragments": (0.0, 0.0), "bonds": (0.0, 0.0), "mass": (1e-6, 0.0),
    "kinetic": (0.25, 10.0), "kinetic_peak": (0.2, 10.0), "fall": (0.15, 100.0),
    "broken": (0.15, 3.0), "hinged": (0.3, 3.0), "clusters": (0.15, 3.0), "rubble_extent": (0.15, 0.3), "rubble_height": (0.2, 0.3),
    "debris": (0.25, 20.0), "debris_alive": (0.25, 20.0), "debris_mass": (0.3, 0.5), "shed_mass": (0.3, 0.5),
    "dust_shed": (0.3, 0.05), "dust_emitted": (0.3, 0.05), "dust_per_shed": (0.02, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class Room:
    """How far a picture may be off: difference at which a pixel fails, share of failed pixels, mean difference, all of 1."""

    fail: float
    share: float
    mean: float


HERE, ELSEWHERE = Room(0.5 / 255, 0.001, 0.0005), Room(8.0 / 255, 0.04, 0.0015)
EXACT_HERE, EXACT_ELSEWHERE = Room(0.5 / 255, 0.0, 1.0), Room(0.5 / 255, 0.01, 1.0)  # ids: any difference counts


@dataclass(frozen=True)
class Row:
    """One shot of a suite."""

    path: Path
    frames: tuple[int, ...]  # drawn and kept as references; figures are of the last
    last: str


@dataclass(frozen=True)
class Observed:
    """What a run of a shot gave, or what its reference says."""

    signature: dict[str, Any]
    metrics: Metrics
    pictures: dict[str, np.ndarray]  # "frame/guide" -> (H, W, 3) u8


@dataclass(frozen=True)
class Check:
    """One comparison. `judged` False: shown only."""

    name: str
    value: str
    reference: str
    room: str
    ok: bool
    judged: bool = True
    images: tuple[np.ndarray, np.ndarray] | None = None  # new, reference


@dataclass
class Judged:
    """One shot's comparison."""

    shot: str
    grade: str
    checks: list[Check] = field(default_factory=list)

    @property
    def failed(self) -> list[Check]:
        """Checks that fail."""
        return [check for check in self.checks if check.judged and not check.ok]


def regress_run(suite: Path, report: Path | None, as_json: bool) -> None:
    """`demolish regress run`: run, compare, print, write the report. Raises RegressionFailed."""
    from pipeline.command import say, table
    from pipeline.report import report_write

    with reporter() as told:
        judged = suite_judge(suite, reporter=told)
    page = report_write(report or Path("runs") / "regress", suite.name, judged)
    if as_json:
        say({"suite": suite.name, "passed": not any(j.failed for j in judged), "report": str(page), "shots": [_plain(j) for j in judged]})
    else:
        rows = [(j.shot, c.name, c.value, c.reference, c.room) for j in judged for c in j.failed]
        if rows:
            table("failed", ("shot", "what", "new", "reference", "room"), rows)
        print(page)
    bad = [f"{j.shot} ({len(j.failed)} of {len(j.checks)})" for j in judged if j.failed]
    if bad:
        raise RegressionFailed(f"differs from the reference: {', '.join(bad)}; see {page}")


def regress_update(suite: Path) -> None:
    """`demolish regress update`: the results of now become the reference. A shot that fails keeps its old one and stops the update."""
    with reporter() as told:
        for row in suite_read(suite):
            reference_write(suite / row.path.stem, observe(row, told))
            told.line(f"{suite / row.path.stem}: updated")


def suite_read(suite: Path) -> list[Row]:
    """Rows of suite.toml. Raises ShotError."""
    path = suite / "suite.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        last = values.get("last", "refine")
        rows = [Row((suite / row["file"]).resolve(), tuple(sorted(row["frames"])), row.get("last", last)) for row in values["shot"]]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ShotError(f"{path}: {error!r}: want [[shot]] entries with file and frames") from None
    empty = [row.path.name for row in rows if not row.frames]
    if empty or not rows:
        raise ShotError(f"{path}: {empty[0] if empty else 'suite'} has nothing to run")
    return rows


def suite_judge(
    suite: Path, overrides: Sequence[str] = (), reporter: Reporter | None = None, see: Callable[[Observed], Observed] = lambda seen: seen
) -> list[Judged]:
    """Every shot of a suite, run and compared; one that cannot run counts as failed and the others go on.

    `overrides` and `see` (a change of what was observed) are for planting faults."""
    judged = []
    for row in suite_read(suite):
        name = row.path.stem
        try:
            reference = reference_read(suite / name)
            judged.append(compare(name, see(observe(row, reporter, overrides)), reference, row))
        except Exception as error:  # whatever went wrong is this shot's result; the others are still worth knowing
            reason = f"{type(error).__name__}: {error}"
            judged.append(Judged(name, "not run", [Check("runs", reason, "a finished run", "", ok=False)]))
    return judged


def observe(row: Row, reporter: Reporter | None = None, overrides: Sequence[str] = ()) -> Observed:
    """Run a shot in an empty store and keep its figures and pictures."""
    loaded = shot_load(row.path, overrides)
    with tempfile.TemporaryDirectory(prefix="demolish-regress-") as folder:
        done: Run = run(loaded, row.frames, row.last, Path(folder) / "take", root=Path(folder) / "store", reporter=reporter)
        return Observed(signature(), metrics(done), pictures(done, row.frames))


def signature() -> dict[str, Any]:
    """What must be equal for results to be equal to the bit."""
    return {
        "processor": processor(),
        "libraries": library_versions(("numpy", "scipy", "taichi", "manifold3d", "trimesh")),
        "drawing": [gl_stack(), library_versions(("pyrender", "PyOpenGL", "onnxruntime"))],
    }


def reference_write(folder: Path, seen: Observed) -> None:
    """metrics.json and PNG files; those of frames no longer kept go."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {f"{name.replace('/', '.')}.png" for name in seen.pictures}
    for old in folder.glob("*.png"):
        if old.name not in kept:
            old.unlink()
    for name, image in seen.pictures.items():
        Image.fromarray(image).save(folder / f"{name.replace('/', '.')}.png", optimize=True)
    plain = {"signature": seen.signature, "metrics": seen.metrics}
    file_publish(folder / "metrics.json", json.dumps(plain, indent=1, sort_keys=True).encode())


def reference_read(folder: Path) -> Observed:
    """What `reference_write` wrote. Raises ShotError where there is none."""
    try:
        plain = json.loads((folder / "metrics.json").read_text())
        images = {path.stem.replace(".", "/", 1): np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}
        return Observed(plain["signature"], plain["metrics"], images)
    except (OSError, ValueError, KeyError) as error:
        raise ShotError(f"{folder}: no usable reference ({error}); make one with `demolish regress update`") from None


def compare(name: str, new: Observed, reference: Observed, row: Row) -> Judged:
    """All checks of one shot."""
    mine, theirs = json.loads(json.dumps(new.signature)), reference.signature
    same_bits = all(mine[key] == theirs.get(key) for key in ("processor", "libraries"))
    same_drawing = same_bits and mine["drawing"] == theirs.get("drawing")
    grade = "same bits" if same_drawing else "same motion, other rasteriser" if same_bits else "other machine or versions: bands"
    judged = Judged(name, grade)
    judged.checks += _compare_metrics(new.metrics, reference.metrics, same_bits)
    for key in sorted(set(new.pictures) | set(reference.pictures), key=lambda k: (int(k.split("/")[0]), k)):
        if key not in new.pictures or key not in reference.pictures:
            there = "new" if key in new.pictures else "reference"
            judged.checks.append(Check(key, str(key in new.pictures), str(key in reference.pictures), f"only in the {there}", ok=False))
            continue
        at_rest = int(key.split("/")[0]) == row.frames[0]
        judged.checks.append(_compare_picture(key, new.pictures[key], reference.pictures[key], same_drawing, same_bits or at_rest))
    return judged


def _compare_metrics(new: Metrics, reference: Metrics, same: bool) -> list[Check]:
    checks = []
    for name in sorted(set(new) | set(reference)):
        a, b = new.get(name), reference.get(name)
        if a is None or b is None:
            checks.append(Check(name, str(a), str(b), "in both", ok=False))
        elif name == "hash":
            checks.append(_compare_hashes(a, b, same))
        else:
            relative, absolute = (SAME, 1e-12) if same else BANDS.get(name, (0.0, 0.0))
            u, v = np.atleast_1d(np.asarray(a, float)), np.atleast_1d(np.asarray(b, float))
            scale = np.abs(v).max() if len(v) else 0.0  # a curve is judged against its peak, not where it is near zero
            ok = u.shape == v.shape and bool((np.abs(u - v) <= absolute + relative * scale).all())
            worst = int(np.argmax(np.abs(u - v))) if len(u) and u.shape == v.shape else 0
            left, right = (f"{w[worst]:.6g}" if len(w) else "-" for w in (u, v))
            room = "equal" if same else f"{relative:.0%} + {absolute:g}"
            checks.append(Check(name if len(u) == 1 else f"{name}[{worst}]", left, right, room, ok))
    return checks


def _compare_hashes(new: list[str], reference: list[str], same: bool) -> Check:
    differ = [k for k, (a, b) in enumerate(zip(new, reference, strict=False)) if a != b]
    first = differ[0] if differ else min(len(new), len(reference)) - 1
    ok = not differ and len(new) == len(reference)
    return Check(f"state hash[{first}]", new[first], reference[first], "equal", ok, judged=same)


def _compare_picture(key: str, new: np.ndarray, reference: np.ndarray, same: bool, judged: bool) -> Check:
    import OpenImageIO as oiio

    exact = key.endswith("/id")
    room = (EXACT_HERE if same else EXACT_ELSEWHERE) if exact else (HERE if same else ELSEWHERE)
    text = f"{room.share:.1%} of pixels past {room.fail * 255:.1f}/255, mean {room.mean * 255:.2f}/255"
    if new.shape != reference.shape:
        return Check(key, str(new.shape), str(reference.shape), "equal size", False, judged, (new, reference))
    a, b = (oiio.ImageBuf(np.ascontiguousarray(image)) for image in (new, reference))
    found = oiio.ImageBufAlgo.compare(a, b, room.fail, room.fail)
    share = found.nfail / (new.shape[0] * new.shape[1])
    ok = share <= room.share and found.meanerror <= room.mean
    return Check(key, f"{share:.2%} past, mean {found.meanerror * 255:.3f}/255, most {found.maxerror * 255:.0f}/255", "", text, ok, judged,
                 (new, reference))  # fmt: skip


def _plain(judged: Judged) -> dict[str, Any]:
    names = ("name", "value", "reference", "room", "ok", "judged")
    checks = [{name: getattr(check, name) for name in names} for check in judged.checks]
    return {"shot": judged.shot, "grade": judged.grade, "passed": not judged.failed, "checks": checks}
