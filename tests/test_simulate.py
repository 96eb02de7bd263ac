"""The stage as a whole: what stands stands, what is cut falls, momentum, resume."""

from __future__ import annotations

import numpy as np
import pytest

from shot.errors import SimulationFailed
from shot.frames import FrameFolder
from shot.params import Event, Material, Materials, Shot, Sim
from shot.results import BOND_BROKEN, BOND_INTACT, GROUND, MEMBER_KINDS, Motion, progress_silent
from tests.structures import boxes, frame

REINFORCED = Material(steel=0.01)
ALL_COLUMNS = Event(frame=1003, lower=(-99, 0.2, -99), upper=(99, 2.5, 99), members=("column",))


def shot_of(frames=4, events=(), **sim):
    """A small shot of the structures below."""
    return Shot(frames=frames, events=events, sim=Sim(**sim), materials=Materials(concrete=REINFORCED))


def small():
    """A one-storey, one-bay frame: 24 fragments."""
    return frame(1, 1, 1, REINFORCED, piece=1.5)


def simulated(tmp_path, shot, structure, frames=None):
    """Run the stage; all frames in order."""
    from sim.simulate import simulate

    fragments, bonds = structure
    motion = simulate(shot, fragments, bonds, FrameFolder(tmp_path), frames or shot.frame_range, progress_silent)
    return [motion.frame(f) for f in shot.frame_range]


@pytest.fixture
def collapse_of(taichi):
    """Collapse of a shot and a structure, before its first step."""
    from sim.collapse import collapse_create

    return lambda shot, structure: collapse_create(shot, *structure)


def test_rounding_does_not_depend_on_what_ran_before(taichi, tmp_path):
    """Libraries turn denormal numbers on and off as they load; state hashes are those of a fresh process all the same."""
    from pathlib import Path

    from pipeline.run import run
    from shot.device import denormals_keep
    from shot.load import shot_load

    loaded = shot_load(Path(__file__).parent / "shots" / "tiny_mesh.toml", ["frames=4"])
    hashes = []
    for on in (True, False):
        denormals_keep(on)
        assert (np.float32(1e-38) * np.float32(0.01) != 0) == on
        motion = run(loaded, None, "simulate", root=tmp_path / str(on)).results["simulate"]
        hashes.append([int(motion.frame(f)["hash"]) for f in loaded.shot.frame_range])
    assert hashes[0] == hashes[1]


def test_intact_frame_stands(taichi, tmp_path):
    """No event: no bond breaks and nothing moves, not by a bit, from the first frame on."""
    frames = simulated(tmp_path, shot_of(6), frame(2, 1, 1, REINFORCED))
    for arrays in frames:
        assert (arrays["bond_state"] == BOND_INTACT).all() and len(arrays["break_bond"]) == 0
        assert (arrays["position"] == frames[0]["position"]).all() and (arrays["velocity"] == 0).all()
    assert set(frames[0]["cluster"]) == {GROUND - 0}


@pytest.mark.slow
def test_intact_frame_stands_five_seconds(taichi, tmp_path):
    """The same for 5 s."""
    frames = simulated(tmp_path, shot_of(121), frame(2, 1, 1, REINFORCED))
    assert (frames[-1]["bond_state"] == BOND_INTACT).all() and (frames[-1]["position"] == frames[0]["position"]).all()


def test_cut_columns_let_it_fall(taichi, tmp_path):
    """Columns cut: breaks are logged at the event's frame, nothing falls faster than g or passes the ground."""
    structure = small()
    shot = shot_of(16, (ALL_COLUMNS,))
    frames = simulated(tmp_path, shot, structure)
    assert not len(frames[1]["break_bond"]) and len(frames[2]["break_bond"])
    assert np.all(frames[2]["break_time"] > 1 / 24 - 1e-9)
    mass, start = structure[0].mass, structure[0].position[:, 1]
    height = [float(np.average(f["position"][:, 1], weights=mass)) for f in frames]
    assert height[-1] < height[0] - 0.5
    elapsed = 14 / 24
    assert np.all(start - frames[-1]["position"][:, 1] < 0.5 * 9.81 * elapsed * (elapsed + 1 / 72) + 0.02)
    assert np.all(frames[-1]["position"][:, 1] > 0.05)


def test_momentum_at_a_split(collapse_of):
    """A spinning bar parts in the middle: sum m v and sum L of the halves equal those of the whole to 1e-6."""
    from sim.step import regroup
    from sim.world import bodies_read, bodies_write, fragments_read

    fragments, bonds = boxes(np.array([(i, 0, 0) for i in range(6)]), (0.5, 0.3, 0.4), Material(), ground=False, origin=(0, 5, 0))
    c = collapse_of(shot_of(), (fragments, bonds))
    b = bodies_read(c.world)
    v, w = np.tile([1.0, -2.0, 0.5], (6, 1)), np.tile([0.3, 2.0, -1.5], (6, 1))
    bodies_write(c.world, b.x, b.q, v, w)

    def momenta():
        p = fragments_read(c.world)
        m = fragments.mass[:, None]
        spin = np.einsum("fij,fj->fi", fragments.inertia, p.angular_velocity)  # rest axes: no rotation yet
        return (m * p.velocity).sum(axis=0), (m * np.cross(p.position, p.velocity) + spin).sum(axis=0)

    before = momenta()
    c.breakage.state[2] = BOND_BROKEN
    regroup(c)
    assert len(np.unique(c.label)) == 2
    for x, y in zip(before, momenta(), strict=True):
        assert y == pytest.approx(x, rel=1e-6, abs=1e-6 * np.abs(x).max())


def test_resume_is_bit_identical(taichi, tmp_path):
    """Killed after frame 1007 with states every 2 frames: the resumed run rewrites what it lost with the same bytes."""
    shot, structure = shot_of(12, (ALL_COLUMNS,), checkpoint=2), small()
    whole = simulated(tmp_path / "whole", shot, structure)

    class Killed(Exception):
        pass

    def kill(number):
        if number == 1008:
            raise Killed

    from sim.simulate import simulate

    with pytest.raises(Killed):
        simulate(shot, *structure, FrameFolder(tmp_path / "part"), shot.frame_range, kill)
    (tmp_path / "part" / "frame.1008.npz").write_bytes(b"torn")
    simulate(shot, *structure, FrameFolder(tmp_path / "part"), shot.frame_range, progress_silent)
    again = [Motion(FrameFolder(tmp_path / "part")).frame(f) for f in shot.frame_range]
    assert [int(f["hash"]) for f in again] == [int(f["hash"]) for f in whole]
    for name in sorted(p.name for p in (tmp_path / "whole").iterdir()):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert len(list((tmp_path / "whole").glob("state.*.npz"))) == 2


def test_blown_up_state_is_refused(collapse_of):
    """A body that is not finite, or impossibly fast, names frame and fragment and is not written."""
    from sim.simulate import guard
    from sim.world import bodies_read, bodies_write

    shot = shot_of()
    c = collapse_of(shot, boxes(np.array([(0, 0, 0), (2, 0, 0)]), (1, 1, 1), Material(), ground=False))
    b = bodies_read(c.world)
    v = b.v.copy()
    v[1, 0] = 1e4
    bodies_write(c.world, b.x, b.q, v, b.w)
    with pytest.raises(SimulationFailed, match="frame 1002.*fragment 1 .*flies"):
        guard(c, shot, 1002)
    v[1, 0] = np.nan
    bodies_write(c.world, b.x, b.q, v, b.w)
    with pytest.raises(SimulationFailed, match="fragment 1 .*is not finite"):
        guard(c, shot, 1002)


def test_worst_first_spares_the_rest(collapse_of, monkeypatch):
    """An overloaded chain of bonds parts in few places when the worst break first, and everywhere if all break at once."""
    from sim import bond
    from sim.step import step

    def parts():
        kind = np.full(9, MEMBER_KINDS.index("beam"))
        fragments, bonds = boxes(np.array([(i, 0, 0) for i in range(9)]), (0.8, 0.8, 0.8), Material(steel=0.0), kind=kind,
                                 grounded=np.isin(np.arange(9), (0, 8)), origin=(0, 3, 0))
        pull = Event(kind="push", frame=1002, frames=9, lower=(-9, 0, -9), upper=(99, 9, 9), members=("beam",), force=(0, -400.0, 0))
        c = collapse_of(shot_of(events=(pull,)), (fragments, bonds))
        step(c)
        return int((c.breakage.state[bonds.fragment_b != GROUND] == BOND_BROKEN).sum())

    few = parts()
    monkeypatch.setattr(bond, "worst_first", lambda U, a, b, count: U > 1.0)
    assert 1 <= few < parts()
