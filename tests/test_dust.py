"""Stage `dust`: what air and dust must do whatever the building: conservation, displacement, transport, same bits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import dust_scenes as scenes
import numpy as np
import pytest

from shot.errors import SimulationFailed
from shot.frames import FrameFolder
from shot.params import Shot
from shot.results import Dust, progress_silent

pytestmark = pytest.mark.usefixtures("taichi")
STILL = {"wind": (0.0, 0.0, 0.0), "turbulence": 0.0, "buoyancy": 0.0, "settle": 0.0}


def run(path: Path, fragments, motion, seeds, frames: int, **dust) -> Dust:
    """The stage on a small box."""
    from sim.dust import dust as stage
    from sim.dust_pairs import shed_write

    shot = Shot.model_validate({"frames": frames, "dust": {"cell": 1.0, "margin": 4.0, **dust}})
    shed = shed_write(FrameFolder(path / "shed"), seeds, shot)
    return stage(shot, fragments, motion, shed, FrameFolder(path / "dust"), shot.frame_range, progress_silent)


def pebble(path: Path, frames: int):
    """A motionless pebble in a 10 m box: air without obstacles."""
    fragments = scenes.boxes([0.0, 5.0, 0.0], [0.01, 0.01, 0.01])
    return fragments, scenes.moved(path / "motion", fragments, frames, lambda t: fragments.position)


def centroid(dust: Dust, frame: int) -> np.ndarray:
    """Centre of mass of the dust [m]."""
    mass, grid = dust.frame(frame)["mass"].astype(float), dust.grid
    axes = [grid["origin"][a] + (np.arange(mass.shape[a]) + 0.5) * grid["cell"] for a in range(3)]
    return np.array([np.tensordot(mass.sum(tuple(b for b in range(3) if b != a)), axes[a], 1) for a in range(3)]) / mass.sum()


def test_mass_ledger_closes(tmp_path: Path):
    """emitted = airborne + left + settled to 1e-6, while some leaves, some settles and some is shed outside the box."""
    fragments, motion, seeds = scenes.falling_block(tmp_path / "motion", 30)
    outside = scenes.shed([0.1], [[500.0, 3.0, 0.0]], [[0, 0, 0]], [1.0], [3.0])
    seeds = scenes.shed(*(np.concatenate([getattr(outside, f"dust_{n}"), getattr(seeds, f"dust_{n}")]) for n in
                          ("time", "position", "velocity", "radius", "mass")))
    result = run(tmp_path, fragments, motion, seeds, 30, wind=(9.0, 0.0, 0.0), settle=0.5, amount=2.0)
    for frame in (1005, 1015, 1030):
        a = result.frame(frame)
        airborne = a["mass"].sum(dtype=np.float64)
        assert a["mass"].min() >= 0.0
        assert abs(a["emitted"] - airborne - a["left"] - a["settled"]) <= 1e-6 * a["emitted"]
    assert a["emitted"] == pytest.approx(2.0 * seeds.dust_mass[seeds.dust_time <= 29 / 24].sum(), rel=1e-12)
    assert a["left"] > 6.0 and a["settled"] > 0.1 and airborne > 1.0


def test_still_air_stays_still(tmp_path: Path):
    """Without wind, pieces in motion or dust, the air has velocity 0 exactly."""
    fragments, motion = pebble(tmp_path, 4)
    result = run(tmp_path, fragments, motion, scenes.shed(), 4, wind=(0.0, 0.0, 0.0))
    assert not result.frame(1004)["velocity"].any()


def test_uniform_wind_passes(tmp_path: Path):
    """A constant flow solves the Euler equations: it stays constant to rounding, through open sides."""
    fragments, motion = pebble(tmp_path, 13)
    result = run(tmp_path, fragments, motion, scenes.shed(), 13, wind=(3.0, 0.0, -2.0))
    np.testing.assert_allclose(result.frame(1013)["velocity"], np.broadcast_to([3.0, 0.0, -2.0], (12, 12, 12, 3))[:, :12], atol=2e-3)


@pytest.mark.parametrize("gap", [1.0, 2.0, 3.5])
def test_falling_slab_drives_air_out_at_its_rim(tmp_path: Path, gap: float):
    """Continuity: a slab of area A at speed v over a gap h pushes v A through perimeter x h, mean speed v A / (4 L h).

    Tolerance 30 %: openness 0.005 leaks about 10 %, the rim is smeared over one cell of the 10. The gap of one cell is met too:
    the flux is bound to the pressure's divergence, not to a resolved jet; only the jet's height is then one cell."""
    fall, frames, L = 10.0, 4, 10.0
    fragments = scenes.boxes([0.0, gap + fall * (frames - 1) / 24, 0.0], [L, 0.2, L])
    motion = scenes.moved(tmp_path / "motion", fragments, frames, lambda t: fragments.position - [0.0, fall * t, 0.0])
    result = run(tmp_path, fragments, motion, scenes.shed(), frames, margin=8.0, **STILL)
    velocity, grid = result.frame(1000 + frames)["velocity"], result.grid
    x = grid["origin"][0] + np.arange(velocity.shape[0]) + 0.5
    inside = np.flatnonzero(np.abs(x) < 0.5 * L)
    a, b = inside[0], inside[-1]
    outward = 0.5 * ((velocity[b, :, inside, 0] + velocity[b + 1, :, inside, 0]).sum(0)
                     - (velocity[a, :, inside, 0] + velocity[a - 1, :, inside, 0]).sum(0)
                     + (velocity[inside, :, b, 2] + velocity[inside, :, b + 1, 2]).sum(0)
                     - (velocity[inside, :, a, 2] + velocity[inside, :, a - 1, 2]).sum(0))
    flux = np.cumsum(outward).max()  # from the ground up to where the air turns round above the slab
    assert flux / (4 * L * gap) == pytest.approx(fall * L * L / (4 * L * gap), rel=0.3)
    above = velocity[inside, int(gap) + 2][:, inside, 1].mean()
    assert above < -0.5 * fall  # and the wake follows the slab down


def test_plate_blocks_the_same_anywhere_between_two_faces(taichi):
    """The series resistance of the two faces that share a plate is 1 / OPEN_LEAST - 1 within 2 %, wherever the plate is."""
    from sim import air
    from sim.dust import boxes_of, grid_around, pieces_at, pieces_lay, work_make

    fragments = scenes.boxes([0.0, 4.0, 0.0], [8.0, 0.1, 8.0])
    grid = grid_around(fragments, 1.0, 4.0)
    work, turn = work_make(grid), np.array([[1.0, 0.0, 0.0, 0.0]], np.float32)
    for height in (4.0, 4.2, 4.5, 4.77):
        pose = {"position": np.array([[0.0, height, 0.0]]), "rotation": turn}
        pieces_lay(grid, pieces_at(grid, boxes_of(fragments), pose, pose, 0.0, 1.0), work)
        column = work.levels.wy[:grid.zeros().size].reshape(grid.padded)[grid.shape[0] // 2, 2:-1, grid.shape[2] // 2]
        assert (1.0 / column - 1.0).sum() == pytest.approx(1.0 / air.OPEN_LEAST - 1.0, rel=0.02)
        assert grid.cells(work.whole["volume"]).sum() / air.SHARE_UNIT == pytest.approx(6.4, rel=1e-4)


def test_pressure_matches_a_direct_solution(taichi):
    """Multigrid conjugate gradients on random openness against scipy's sparse LU, to the tolerance times the condition."""
    import scipy.sparse as sparse
    from scipy.sparse.linalg import spsolve

    from sim.pressure import levels_make, pressure_solve

    shape, rng = (12, 9, 11), np.random.default_rng(3)
    levels, padded = levels_make(shape), tuple(n + 2 for n in shape)
    size = int(np.prod(padded))
    opens = [a[:size].reshape(padded) for a in (levels.wx, levels.wy, levels.wz)]
    for axis, a in enumerate(opens):
        a[1:, 1:, 1:] = np.where(rng.random(a[1:, 1:, 1:].shape) < 0.2, 0.005, 1.0)
        if axis == 1:
            a[:, 1] = 0.0
    index = np.full(padded, -1)
    index[1:-1, 1:-1, 1:-1] = np.arange(np.prod(shape)).reshape(shape)
    rows, cols, values, diagonal = [], [], [], np.zeros(np.prod(shape))
    for axis, a in enumerate(opens):
        low, high = np.roll(index, 1, axis), index
        for one, other in ((low, high), (high, low)):
            here = (one >= 0)
            np.add.at(diagonal, one[here], a[here])
            both = here & (other >= 0)
            rows.append(one[both])
            cols.append(other[both])
            values.append(-a[both])
    every = np.arange(np.prod(shape))
    A = sparse.csc_matrix((np.concatenate([*values, diagonal]), (np.concatenate([*rows, every]), np.concatenate([*cols, every]))))
    b = rng.normal(size=shape)
    want = np.reshape(np.asarray(spsolve(A, b.ravel())), shape)
    p, flat = np.zeros(size, np.float32), np.zeros(padded, np.float32)
    flat[1:-1, 1:-1, 1:-1] = b
    used, residual = pressure_solve(levels, p, flat.ravel(), 1e-5, 80)
    assert residual <= 1e-5 and used < 40
    np.testing.assert_allclose(p.reshape(padded)[1:-1, 1:-1, 1:-1], want, atol=2e-3 * np.abs(want).max())


def test_pressure_bits_do_not_depend_on_parallel_loops(taichi, monkeypatch):
    """The threaded loops of large grids and the serial ones of small grids give the same bits: sums run over rows in order."""
    from sim import pressure

    shape, rng, found = (12, 10, 9), np.random.default_rng(5), []
    b = np.zeros(tuple(n + 2 for n in shape), np.float32)
    b[1:-1, 1:-1, 1:-1] = rng.normal(size=shape)
    opening = (0.01 + 0.99 * rng.random(b.size)).astype(np.float32)
    for limit in (0, 10**9):
        monkeypatch.setattr(pressure, "PARALLEL_FROM", limit)
        levels, p = pressure.levels_make(shape), np.zeros(b.size, np.float32)
        for a in (levels.wx, levels.wy, levels.wz):
            a[:b.size] = opening
        pressure.pressure_solve(levels, p, b.ravel(), 1e-4, 40)
        found.append(p)
    assert found[0].any() and np.array_equal(*found)


def test_projection_leaves_no_divergence(tmp_path: Path):
    """After a step among falling pieces the root mean square of div u is below the tolerance times that of the piston."""
    from sim import dust as stage

    fragments, motion, _ = scenes.falling_block(tmp_path / "motion", 12)
    shot = Shot.model_validate({"frames": 12, "dust": {"cell": 1.0, "margin": 4.0, "turbulence": 0.0}})
    grid = stage.grid_around(fragments, 1.0, 4.0)
    state, work = stage.state_make(grid, (0.0, 0.0, 0.0), 1000), stage.work_make(grid)
    source = stage.source_of(scenes.shed(), grid, 1.0)
    for frame in range(1001, 1013):
        before = motion.frame(max(frame - 1, 1001))
        stage.frame_step(shot, grid, stage.boxes_of(fragments), source, before, motion.frame(frame), state, work, frame)
    u, v, w = (a.reshape(grid.padded) for a in (state.u, state.v, state.w))
    inner = (slice(1, -1),) * 3
    div = (u[2:, 1:-1, 1:-1] - u[inner]) + (v[1:-1, 2:, 1:-1] - v[inner]) + (w[1:-1, 1:-1, 2:] - w[inner])
    asked = np.sqrt((work.real["divergence"] ** 2).sum())
    assert asked > 1.0
    assert np.sqrt((div**2).sum()) <= 2.0 * stage.TOLERANCE * asked


def test_dust_settles_at_its_speed(tmp_path: Path):
    """In still air dy/dt = -settle until the ground is reached; the flux limiter shifts the centre by less than 0.05 cells."""
    fragments, motion = pebble(tmp_path, 25)
    seeds = scenes.shed([0.0], [[0.0, 6.0, 0.0]], [[0, 0, 0]], [2.0], [1.0])
    result = run(tmp_path, fragments, motion, seeds, 25, **{**STILL, "settle": 1.5})
    fallen = centroid(result, 1002)[1] - centroid(result, 1025)[1]
    assert fallen == pytest.approx(1.5 * 23 / 24, abs=0.05)
    assert result.frame(1025)["settled"] < 1e-4


def test_settled_mass_is_flux_through_the_floor(tmp_path: Path):
    """A layer of thickness h settles completely after h / settle, and nothing else happens to it."""
    fragments, motion = pebble(tmp_path, 37)
    seeds = scenes.shed([0.0], [[0.0, 0.2, 0.0]], [[0, 0, 0]], [1.0], [2.0])
    result = run(tmp_path, fragments, motion, seeds, 37, **{**STILL, "settle": 4.0})
    last = result.frame(1037)
    assert last["settled"] == pytest.approx(2.0, rel=2e-2) and last["left"] == 0.0


def test_wind_carries_a_puff(tmp_path: Path):
    """The centre of mass moves with the wind, d = wind t; the flux limiter shifts it by less than 0.05 cells."""
    fragments, motion = pebble(tmp_path, 13)
    seeds = scenes.shed([0.0], [[-1.0, 5.0, 0.0]], [[4.0, 0, 0]], [1.5], [1e-6])
    result = run(tmp_path, fragments, motion, seeds, 13, **{**STILL, "wind": (4.0, 0.0, 1.0)})
    np.testing.assert_allclose(centroid(result, 1013) - centroid(result, 1002), np.array([4.0, 0.0, 1.0]) * 11 / 24, atol=0.05)


def test_shed_momentum_moves_the_air(tmp_path: Path):
    """A heavy jet of dust drags air along; its momentum is bounded by what it was shed with."""
    fragments, motion = pebble(tmp_path, 3)
    seeds = scenes.shed([0.0], [[0.0, 5.0, 0.0]], [[20.0, 0, 0]], [1.5], [5.0])
    a = run(tmp_path, fragments, motion, seeds, 3, **STILL).frame(1002)
    momentum = ((1.2 + a["mass"]) * a["velocity"][..., 0]).sum()
    assert 20.0 <= momentum <= 5.0 * 20.0


def test_laden_air_sinks(tmp_path: Path):
    """Buoyancy pulls laden air down: acceleration at most g buoyancy load, and without it none."""
    drop = {}
    for weight in (0.0, 1.0):
        fragments, motion = pebble(tmp_path / str(weight), 13)
        seeds = scenes.shed([0.0], [[0.0, 6.0, 0.0]], [[0, 0, 0]], [2.0], [10.0])
        result = run(tmp_path / str(weight), fragments, motion, seeds, 13, **{**STILL, "buoyancy": weight})
        drop[weight] = centroid(result, 1002)[1] - centroid(result, 1013)[1]
    assert abs(drop[0.0]) < 1e-6
    assert 0.1 < drop[1.0] < 0.5 * 9.81 * 0.5**2


def test_confinement_returns_no_more_than_was_lost(tmp_path: Path):
    """With turbulence = 1 a stirred box's kinetic energy does not grow once the pieces rest."""
    fragments, motion, _ = scenes.falling_block(tmp_path / "motion", 72)
    result = run(tmp_path, fragments, motion, scenes.shed(), 72, **{**STILL, "turbulence": 1.0})
    energy = [(result.frame(f)["velocity"].astype(float) ** 2).sum() for f in (1040, 1050, 1060, 1072)]
    assert energy[0] > energy[1] > energy[2] > energy[3] > 0.0


def test_resumed_run_is_identical(tmp_path: Path):
    """Frames made after a stop, also one that lost its last frame, have the bytes of an unbroken run."""
    fragments, motion, seeds = scenes.falling_block(tmp_path / "motion", 20)
    run(tmp_path / "whole", fragments, motion, seeds, 20)
    run(tmp_path / "parts", fragments, motion, seeds, 12)
    (tmp_path / "parts/dust/frame.1012.npz").write_bytes(b"damaged")
    run(tmp_path / "parts", fragments, motion, seeds, 20)
    for frame in range(1001, 1021):
        name = f"dust/frame.{frame}.npz"
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_a_state_that_is_no_number_stops_the_run(tmp_path: Path):
    """A shed mass of NaN raises SimulationFailed that names the frame; that frame is not written."""
    fragments, motion = pebble(tmp_path, 4)
    seeds = scenes.shed([0.06], [[0.0, 5.0, 0.0]], [[0, 0, 0]], [1.0], [np.nan])
    with pytest.raises(SimulationFailed, match="frame 1003"):
        run(tmp_path, fragments, motion, seeds, 4)
    assert not FrameFolder(tmp_path / "dust").has_frame(1003)


def test_same_bits_for_any_thread_count(tmp_path: Path):
    """One, two and four threads write the same bytes."""
    digests = {}
    for threads in (1, 2, 4):
        code = ("import sys; sys.path.insert(0, 'tests'); from pathlib import Path; import dust_scenes as s, test_dust as t; "
                "from shot.device import taichi_open; taichi_open(); p = Path(sys.argv[1]); "
                "t.run(p, *s.falling_block(p / 'motion', 10), 10, cell=0.5)")
        path = tmp_path / str(threads)
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, env={**os.environ, "DEMOLISH_THREADS": str(threads)})
        digests[threads] = hashlib.sha256(b"".join(p.read_bytes() for p in sorted((path / "dust").glob("*.npz")))).hexdigest()
    assert len(set(digests.values())) == 1
