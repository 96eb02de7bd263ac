"""The command line: exit codes that do not lie, errors of one line, and no heavy import before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.digest import ROOT
from pipeline.framespec import FrameSpecError, frames_parse

SHOT = range(1001, 1145)


def demolish(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-P", str(ROOT / "cli.py"), *arguments], capture_output=True, text=True, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_help_imports_nothing_heavy():
    """`demolish --help` loads click and the standard library only."""
    code = (
        "import sys, cli, click.testing; r = click.testing.CliRunner().invoke(cli.cli, ['run', '--help']); assert r.exit_code == 0;"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'numpy','pydantic','taichi','torch','rich','scipy','shot','pipeline'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run"], 2, "Missing argument"),
        (["rum", "apartment_block"], 2, "No such command"),
        (["run", "nowhere"], 3, "no such shot file"),
        (["run", "apartment_block", "-s", "sim.gravty=3"], 3, "did you mean sim.gravity"),
        (["run", "apartment_block", "--to", "refin"], 2, "did you mean refine"),
        (["run", "apartment_block", "--frames", "1001-1010:2"], 2, "write x for a step"),
        (["run", "apartment_block", "--frames", "900-910"], 2, "outside the shot"),
        (["run", "apartment_block", "-s", "building.kind=mesh", "-s", "building.file=none.glb", "--to", "build"], 3, "none.glb"),
        (["params", "sim.gravty"], 3, "did you mean sim.gravity"),
        (["cache", "prune", "--keep", "much"], 2, "want a size"),
        (["regress", "run", "/nonexistent"], 2, "does not exist"),
    ],
)
def test_mistakes_end_in_one_line_and_their_code(tmp_path: Path, arguments: list[str], code: int, words: str):
    """Every mistake has its exit code, one sentence on stderr and no traceback."""
    done = demolish(*arguments, cwd=tmp_path, DEMOLISH_CACHE=str(tmp_path / "cache"))
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_dry_run_makes_nothing(tmp_path: Path):
    """A dry run lists every stage as a miss and writes neither cache nor take."""
    done = demolish("run", "apartment_block", "--dry-run", "--json", cwd=tmp_path, DEMOLISH_CACHE=str(tmp_path / "cache"))
    rows = json.loads(done.stdout)
    assert [row["stage"] for row in rows][:3] == ["build", "shatter", "simulate"] and {row["state"] for row in rows} == {"miss"}
    assert list(tmp_path.iterdir()) == []


def test_camera_does_not_resimulate(tmp_path: Path):
    """Moving the camera changes the keys of draw and refine only; gravity those from simulate on."""
    def keys(*overrides: str) -> dict[str, str]:
        done = demolish("run", "apartment_block", "--dry-run", "--json", *overrides, DEMOLISH_CACHE=str(tmp_path))
        return {row["stage"]: row["key"] for row in json.loads(done.stdout)}

    base, camera, gravity = keys(), keys("-s", "camera.fov=50"), keys("-s", "sim.gravity=3.7")
    assert {s for s in base if base[s] != camera[s]} == {"draw", "refine"}
    assert {s for s in base if base[s] == gravity[s]} == {"build", "shatter"}


def test_unwritable_cache_is_exit_5(tmp_path: Path):
    """A cache folder that cannot be made is one sentence, before any work."""
    (tmp_path / "file").write_text("")
    done = demolish("run", "apartment_block", "--to", "build", DEMOLISH_CACHE=str(tmp_path / "file" / "x"))
    assert done.returncode == 5 and "cannot be written" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "frames"),
    [("1001", [1001]), ("1001-1005x2,1010", [1001, 1003, 1005, 1010]), ("1010,1001-1003", [1001, 1002, 1003, 1010])],
)
def test_frame_lists(text: str, frames: list[int]):
    """fileseq's grammar for ranges, steps and commas."""
    assert frames_parse(text, SHOT) == frames


@pytest.mark.parametrize("text", ["1001:1005", "1001-1010y2", "abc", "1-10"])
def test_frame_lists_refused(text: str):
    """Stagger, fill, nonsense and frames outside the shot are usage errors."""
    with pytest.raises(FrameSpecError):
        frames_parse(text, SHOT)
