"""Stages side by side in several processes: the same bytes as one after the other; whatever ends one of them ends in a clear way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import relay
from pipeline.digest import ROOT, file_digest
from pipeline.plan import plan
from pipeline.progress import Quiet
from pipeline.run import Run, run
from shot.errors import FramesFailed
from shot.load import Loaded, shot_load

TINY = ROOT / "tests" / "shots" / "tiny_wall.toml"
QUICK = ["refine.backend=none", "frames=26", "camera.width=64", "camera.height=48", "dust.cell=1.0"]


def tiny() -> Loaded:
    """A shot with just enough frames for more processes."""
    return shot_load(str(TINY), QUICK, ROOT / "assets" / "shots")


def files(folder: Path) -> dict[str, str]:
    """Digest of every file of the store that is no timing."""
    return {str(p.relative_to(folder)): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "timing.json"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """The store of one process."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay, "GROUPS", ())
        return folder, run(tiny(), last="draw", out=folder / "take", root=folder / "cache")


def started(monkeypatch: pytest.MonkeyPatch) -> list[relay.Relay]:
    """Relays that runs start from now on."""
    seen: list[relay.Relay] = []
    begin = relay.Relay.go
    monkeypatch.setattr(relay.Relay, "go", lambda self, *given: (seen.append(self), begin(self, *given))[1])
    return seen


def test_same_bytes_side_by_side(alone: tuple[Path, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every file of every stage equals that of one process, and each stage's time is known."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    seen = started(monkeypatch)
    done = run(tiny(), last="draw", out=tmp_path / "take", root=tmp_path / "cache")
    assert len(seen) == 1 and {"scatter", "dust", "upsample", "draw"} <= set(done.seconds)
    assert files(tmp_path / "cache") == files(alone[0] / "cache") and done.keys == alone[1].keys
    again = run(tiny(), last="draw", out=tmp_path / "take", root=tmp_path / "cache")
    assert len(seen) == 1 and set(again.hits) == set(again.keys)


def test_a_child_that_dies_is_one_error(alone: tuple[Path, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A killed child ends the run with exit code 4's error that names its stages; running again goes on and ends with the same bytes."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    begin = relay.Relay.go

    def killed(self: relay.Relay, *given):
        followed = begin(self, *given)
        os.kill(self.children[0].process.pid or 0, signal.SIGKILL)
        return followed

    with monkeypatch.context() as patch:
        patch.setattr(relay.Relay, "go", killed)
        with pytest.raises(FramesFailed, match="shed, scatter, dust, upsample"):
            run(tiny(), last="draw", out=tmp_path / "take", root=tmp_path / "cache")
    run(tiny(), last="draw", out=tmp_path / "take", root=tmp_path / "cache")
    assert files(tmp_path / "cache") == files(alone[0] / "cache")


def test_a_child_that_does_not_hear_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ending the children takes no longer than the grace, whatever they hang in: here one that would drop its locks first is stopped."""
    monkeypatch.setattr(relay, "GRACE", 1.0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    groups = relay.relay_groups(plan(tiny(), list(range(1001, 1027)), "draw", tmp_path))
    running = relay.Relay(groups, Quiet())
    first = running.children[0].process.pid or 0
    until = time.monotonic() + 60.0
    while not handles(first, signal.SIGTERM) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(first, signal.SIGSTOP)
    running.close()
    assert running.children[0].process.exitcode == -signal.SIGKILL
    assert not any(child.process.is_alive() or child.listener.is_alive() for child in running.children)


def test_a_reporter_that_fails_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What a child tells cannot be passed on, as where the output is a pipe that nobody reads: its error ends the run, nothing hangs."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    class Deaf(Quiet):
        def beside(self) -> Quiet:
            raise BrokenPipeError("nobody reads this")

    with pytest.raises(BrokenPipeError, match="nobody"):
        run(tiny(), last="draw", out=tmp_path / "take", root=tmp_path / "cache", reporter=Deaf())


def handles(process: int, number: int) -> bool:
    """True if a process has a handler of its own for a signal."""
    caught = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_first_picture_comes_before_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The child that draws delivers a preview's first frame before the simulation is through with the fifth."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    take, there = tmp_path / "take", []

    class Patient(Quiet):
        """Lets the simulation wait for the picture after its fifth frame: a real shot simulates for much longer."""

        def advance(self, frame: int) -> None:
            until = time.monotonic() + 60.0
            while frame == 1005 and not there and time.monotonic() < until:
                there.extend(take.rglob("*.[0-9]*.png"))
                time.sleep(0.05)

        def beside(self) -> Quiet:
            return Quiet()

    run(tiny(), out=take, root=tmp_path / "cache", picture_first=True, reporter=Patient())
    assert [path.name.split(".")[-2] for path in there] == ["1001"]
    assert len(list(take.rglob("*.[0-9]*.png"))) == 26


def test_all_stages_follow_the_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every stage up to the drawing finishes frames while the simulation still has some to make."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    cache, seen = tmp_path / "cache", set()

    class Patient(Quiet):
        """Lets the simulation wait for the others after its fifteenth frame."""

        def advance(self, frame: int) -> None:
            until = time.monotonic() + 60.0
            while frame == 1015 and len(seen) < 5 and time.monotonic() < until:
                seen.update({path.parent.parent.name for path in cache.glob("*/*.partial/frame.1010.digest")} - {"simulate"})
                time.sleep(0.05)

        def beside(self) -> Quiet:
            return Quiet()

    run(tiny(), last="draw", out=tmp_path / "take", root=cache, reporter=Patient())
    assert seen == {"shed", "scatter", "dust", "upsample", "draw"}


def test_a_result_that_is_damaged_meanwhile_is_mended(alone: tuple[Path, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A child that meets a damaged frame of a finished result stops; the parent goes on alone, mends it, and ends with the same bytes."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    cache = tmp_path / "cache"
    shutil.copytree(alone[0] / "cache", cache)
    for stage in ("dust", "draw"):
        shutil.rmtree(cache / stage)
    begin, lines = relay.Relay.go, []

    def damaged(self: relay.Relay, *given):
        victim = next((cache / "simulate").glob("*/frame.1012.npz"))
        victim.write_bytes(victim.read_bytes()[:-20])
        return begin(self, *given)

    class Told(Quiet):
        def line(self, text: str) -> None:
            lines.append(text)

        def beside(self) -> Quiet:
            return self

    monkeypatch.setattr(relay.Relay, "go", damaged)
    run(tiny(), last="draw", out=tmp_path / "take", root=cache, reporter=Told())
    assert any("frame.1012.npz" in line and "making it again" in line for line in lines)
    assert files(cache) == files(alone[0] / "cache")


def children(parent: int) -> list[int]:
    """Processes whose parent this is."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def living(process: int) -> bool:
    """True if it is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_kill_of_the_run(alone: tuple[Path, Run], tmp_path: Path):
    """kill -9 while all stages are at work: none of its processes is left a few seconds later; running again ends with the same bytes."""
    sets = [word for value in QUICK for word in ("-s", value)]
    command = [sys.executable, "-P", str(ROOT / "cli.py"), "run", str(TINY), *sets, "-o", str(tmp_path / "take")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DEMOLISH_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120.0
    while not list(tmp_path.glob("cache/draw/*.partial/frame.1004.digest")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    born = children(process.pid)
    process.kill()
    process.wait()
    assert len(born) == 3 and list(tmp_path.glob("cache/draw/*.partial"))  # two children and multiprocessing's tracker
    until = time.monotonic() + 60.0
    while any(living(one) for one in born) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(living(one) for one in born)
    run(tiny(), last="draw", out=tmp_path / "take", root=tmp_path / "cache")
    assert files(tmp_path / "cache") == files(alone[0] / "cache")
