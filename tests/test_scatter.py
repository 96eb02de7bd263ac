"""Debris motion: free flight, drag, bounce and friction in closed form; nothing inside solids; same bits for threads and resuming."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from box_motion import boxes, frame_arrays, motion_write
from numpy.typing import ArrayLike

from shot.frames import FrameFolder
from shot.params import Shot
from shot.results import Debris, Fragments, Motion, Seeds, progress_silent
from shot.rotation import conjugate, rotate

H = 1 / 24 / 4  # sub-step of a 24 fps shot at debris.steps = 4
G = 9.81
FAR = boxes(np.array([[500.0, 0.5, 500.0]]), np.ones((1, 3)))  # a fragment that takes no part


def seeds_of(position, velocity, radius: ArrayLike = 0.02, time: ArrayLike = 0.0, spin: ArrayLike = 0.0) -> Seeds:
    """Pieces of concrete from fragment 0."""
    position = np.atleast_2d(np.asarray(position, np.float32))
    n = len(position)
    empty = np.zeros(0)
    return Seeds(
        time=np.broadcast_to(np.asarray(time, float), n).copy(), position=position,
        velocity=np.broadcast_to(np.asarray(velocity, np.float32), (n, 3)).copy(),
        spin=np.broadcast_to(np.asarray(spin, np.float32), (n, 3)).copy(),
        radius=np.broadcast_to(np.asarray(radius, np.float32), n).copy(), weight=np.ones(n, np.float32),
        material=np.zeros(n, np.int16), source=np.zeros(n, np.int32), dust_time=empty,
        dust_position=np.zeros((0, 3), np.float32), dust_velocity=np.zeros((0, 3), np.float32), dust_radius=empty.astype(np.float32),
        dust_mass=empty, event_energy=empty, event_mass=empty,
    )  # fmt: skip


def run(path: Path, fragments: Fragments, motion: Motion, seeds: Seeds, frames: int, resume: bool = False, **debris) -> Debris:
    """Scatter into path/debris."""
    from sim.dust_pairs import shed_write
    from sim.scatter import scatter

    shot = Shot.model_validate({"debris": debris, "frames": frames})
    folder = FrameFolder(path / "debris")
    if not resume:
        assert not list(folder.path.iterdir())
    shed = shed_write(FrameFolder(path / "shed"), seeds, shot)
    return scatter(shot, fragments, motion, shed, folder, shot.frame_range, progress_silent)


def still(path: Path, fragments: Fragments, frames: int) -> Motion:
    """Fragments that never move."""
    return motion_write(path / "motion", [frame_arrays(fragments.position)] * frames)


def track(debris: Debris, frames: int, name: str = "position") -> np.ndarray:
    """An array of all frames, (frames, P, ...)."""
    return np.stack([debris.frame(1001 + k)[name] for k in range(frames)])


def test_free_flight(taichi, tmp_path):
    """Without air y_n = y0 + v0 n h - g h^2 n (n + 1) / 2, the symplectic Euler sum, to f32 rounding (1e-5 m in 20 m)."""
    frames = 25
    debris = run(tmp_path, FAR, still(tmp_path, FAR, frames), seeds_of([0, 20, 0], [3, 4, -2]), frames, drag=0.0)
    n = 4 * np.arange(frames)[:, None]
    expected = np.array([0, 20, 0]) + np.array([3, 4, -2]) * n * H - np.array([0, 1, 0]) * G * H * H * n * (n + 1) / 2
    error = np.abs(track(debris, frames)[:, 0] - expected)
    # what is left is Stokes drag of a 2 cm piece, which debris.drag does not switch off: 1e-4 1/s, so 1e-4 v t^2 / 2
    assert error.max() < 2e-3 and error[:8].max() < 1e-4


def test_terminal_speed(taichi, tmp_path):
    """A falling piece reaches v with g = a v + b v^2: quadratic for 1 cm, Stokes' 2 r^2 rho g / (9 mu) for 10 um within 3 % (Re 0.04)."""
    frames = 120
    seeds = seeds_of([[0, 400, 0], [5, 400, 0]], 0.0, radius=[0.005, 1e-5])
    debris = run(tmp_path, FAR, still(tmp_path, FAR, frames), seeds, frames)
    speed = -track(debris, frames, "velocity")[-1, :, 1]
    quadratic = np.sqrt(8 / 3 * 2400 * 0.005 * G / (1.2 * 0.8))
    stokes = 2 / 9 * 1e-5**2 * 2400 * G / (1.2 * 1.5e-5)
    assert speed == pytest.approx([quadratic, stokes], rel=0.03)


def test_bounce_height(taichi, tmp_path):
    """Dropped from h a piece rises to e^2 h; the hit speed is known to g h_step, so the height to 2 e^2 v h_step."""
    frames, e, drop = 40, 0.5, 4.0
    debris = run(tmp_path, FAR, still(tmp_path, FAR, frames), seeds_of([0, drop + 0.02, 0], 0.0), frames, bounce=e, drag=0.0)
    y = track(debris, frames)[:, 0, 1] - 0.02
    landed = np.argmax(y < 0.2)
    tolerance = 2 * e * e * np.sqrt(2 * G * drop) * H + G * (1 / 24) ** 2 / 8  # and the top may fall between frames
    assert y[landed:].max() == pytest.approx(e * e * drop, abs=tolerance)


@pytest.mark.parametrize("mu", [0.3, 0.8])
def test_friction_stops(taichi, tmp_path, mu):
    """Sliding at v a piece stops after v^2 / (2 mu g), to one sub-step of sliding, and then lies still, turned by the way it went."""
    frames, v, r = 60, 3.0, 0.1
    debris = run(tmp_path, FAR, still(tmp_path, FAR, frames), seeds_of([0, r, 0], [v, 0, 0], radius=r), frames, friction=mu, drag=0.0)
    x = track(debris, frames)[:, 0]
    assert x[-1, 0] == pytest.approx(v * v / (2 * mu * G), abs=2 * v * H)
    assert np.array_equal(x[-1], x[-2]) and x[-1, 1] == pytest.approx(r, abs=3e-4)
    turned = track(debris, frames, "rotation")[1, 0]
    assert turned[3] < -0.1 and abs(turned[1]) < 1e-6  # towards +x about -z


def test_slope(taichi, tmp_path):
    """On a 30 degree plane a piece rests with mu = 0.7 and slides with g (sin - mu cos) at mu = 0.3, to 2 %.

    Until it sleeps it follows gravity through the skin of 0.1 mm in every sub-step:
    48 x tan 30 x 0.1 mm = 2.8 mm, and as much to settle."""
    angle = np.radians(30)
    ramp = boxes(np.array([[0.0, 20.0, 0.0]]), np.array([[40.0, 1.0, 10.0]]))
    q = np.array([[np.cos(angle / 2), 0, 0, np.sin(angle / 2)]])
    n = np.array([-np.sin(angle), np.cos(angle), 0])
    start = np.array([0, 20.0, 0]) + n * (0.5 + 0.02)
    frames = 37
    for mu, acceleration in ((0.7, 0.0), (0.3, G * (np.sin(angle) - 0.3 * np.cos(angle)))):
        path = tmp_path / str(mu)
        motion = motion_write(path / "motion", [frame_arrays(ramp.position, rotation=q)] * frames)
        x = track(run(path, ramp, motion, seeds_of(start, 0.0), frames, friction=mu, drag=0.0), frames)[:, 0]
        t = (frames - 1) / 24
        assert np.linalg.norm(x[-1] - x[0]) == pytest.approx(0.5 * acceleration * t * t, rel=0.02, abs=4e-3)
        assert (acceleration > 0) == (not np.array_equal(x[-1], x[-2]))


def test_no_tunnelling(taichi, tmp_path):
    """A piece at 120 m/s does not pass a wall of 5 cm, nor does a wall at 40 m/s pass a resting piece."""
    wall = boxes(np.array([[10.0, 2.0, 0.0]]), np.array([[0.05, 4.0, 4.0]]))
    frames = 12
    debris = run(tmp_path, wall, still(tmp_path, wall, frames), seeds_of([0, 2, 0], [120, 0, 0]), frames, drag=0.0)
    assert track(debris, frames)[:, 0, 0].max() < 10.0
    path = tmp_path / "moving"
    moving = [frame_arrays(wall.position + [-40 / 24 * k, 0, 0]) for k in range(frames)]
    x = track(run(path, wall, motion_write(path / "motion", moving), seeds_of([5, 0.02, 0], 0.0), frames), frames)[:, 0, 0]
    assert (x < 10 - 40 / 24 * np.arange(frames)).all() and x[-1] < -5


def test_sleeper_is_woken(taichi, tmp_path):
    """A wall that starts after the piece fell asleep in front of it at 2 m/s pushes it along and is never inside it."""
    wall = boxes(np.array([[2.0, 2.0, 0.0]]), np.array([[0.2, 4.0, 4.0]]))
    frames = 70
    centre = [wall.position - [2 / 24 * max(0, k - 30), 0, 0] for k in range(frames)]
    motion = motion_write(tmp_path / "motion", [frame_arrays(c) for c in centre])
    x = track(run(tmp_path, wall, motion, seeds_of([0.5, 0.02, 0], 0.0), frames), frames)[:, 0, 0]
    assert x[30] == x[20] and x[-1] < 0.0
    assert (x + 0.02 < np.array([c[0, 0] for c in centre]) - 0.1 + 1e-3).all()


def test_rides_and_falls_with_its_floor(taichi, tmp_path):
    """A piece asleep on a slab creeping along keeps its place on it; when the slab drops away it wakes and lands on the ground."""
    slab = boxes(np.array([[0.0, 3.0, 0.0]]), np.array([[4.0, 0.2, 4.0]]))
    creep, frames = 0.03 / 24, 90
    centre = [slab.position + [creep * max(0, min(k, 60) - 30), 0, 0] + ([0, 0, 30.0] if k > 60 else [0, 0, 0]) for k in range(frames)]
    motion = motion_write(tmp_path / "motion", [frame_arrays(c) for c in centre])
    x = track(run(tmp_path, slab, motion, seeds_of([0.5, 3.2, 0.3], 0.0), frames, bounce=0.0), frames)[:, 0]
    assert x[59, 0] - x[29, 0] == pytest.approx(creep * 29, abs=1e-3) and x[59, 1] == pytest.approx(3.12, abs=1e-3)
    assert x[-1, 1] == pytest.approx(0.02, abs=1e-3)


def test_hammer_and_anvil(taichi, tmp_path):
    """A plate pressed to the ground grinds up the piece in its middle; one near the rim is pushed out and lives."""
    plate = boxes(np.array([[0.0, 2.0, 0.0]]), np.array([[4.0, 0.5, 4.0]]))
    frames = 20
    drop = [frame_arrays(plate.position - [0, min(1.75, 0.25 * k), 0]) for k in range(frames)]
    seeds = seeds_of([[0, 0.02, 0], [1.99, 0.02, 0]], 0.0)
    debris = run(tmp_path, plate, motion_write(tmp_path / "motion", drop), seeds, frames)
    alive = debris.frame(1000 + frames)["alive"]
    assert not alive[0] and alive[1]
    assert debris.frame(1000 + frames)["position"][1, 0] > 2.0


def rubble(path: Path, pieces: int, fragment_count: int, frames: int) -> tuple[Fragments, Motion, Seeds]:
    """Boxes that tumble down on each other in prescribed arcs, and pieces born among and inside them over time."""
    rng = np.random.default_rng(3)
    side = rng.uniform(0.3, 1.2, (fragment_count, 3))
    span = 1.5 * np.sqrt(fragment_count)
    start = rng.uniform([-span, 2, -span], [span, 12, span], (fragment_count, 3))
    fragments = boxes(start, side)
    axis = rng.normal(size=(fragment_count, 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    rate, floor = rng.uniform(0, 3, fragment_count), 0.5 * np.linalg.norm(side, axis=1)
    fall = np.sqrt(2 * (start[:, 1] - floor) / G)
    written = []
    for k in range(frames):
        t = np.minimum(k / 24, fall)
        centre = start - 0.5 * G * t[:, None] ** 2 * [0, 1, 0]
        half = 0.5 * rate * t
        written.append(frame_arrays(centre, np.concatenate([np.cos(half)[:, None], np.sin(half)[:, None] * axis], axis=1)))
    host = rng.integers(0, fragment_count, pieces)
    time = np.sort(rng.uniform(0, 0.6 * frames / 24, pieces))
    position = start[host] + rng.uniform(-0.5, 0.5, (pieces, 3)) * side[host]
    position[:, 1] -= 0.5 * G * np.minimum(time, fall[host]) ** 2
    radius = 0.01 * rng.uniform(0.04, 1, pieces) ** -0.4
    return fragments, motion_write(path / "motion", written), seeds_of(position, rng.normal(0, 4, (pieces, 3)), radius, time, 5.0)


def inside(fragments: Fragments, pose: Mapping, position: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Depth (P) [m] of each piece's sphere below the nearest face of the box it is deepest in; negative outside."""
    half = np.abs(fragments.hull_vertex.reshape(-1, 8, 3)).max(axis=1)
    depth = np.full(len(position), -np.inf)
    for f in range(fragments.count):
        local = rotate(conjugate(pose["rotation"][f]), position - pose["position"][f])
        depth = np.maximum(depth, (half[f] + radius[:, None] - np.abs(local)).min(axis=1))
    return depth


def test_nothing_ends_inside(taichi, tmp_path):
    """In tumbling rubble no living piece is below ground or inside a box, beyond the skin; few are ground up; most come to rest."""
    fragments, motion, seeds = rubble(tmp_path, 800, 60, 90)
    debris = run(tmp_path, fragments, motion, seeds, 90)
    for frame in (1010, 1030, 1050, 1090):
        now = debris.frame(frame)
        alive = np.flatnonzero(now["alive"])
        assert (now["position"][alive, 1] > seeds.radius[alive] - 2e-4).all()
        assert inside(fragments, motion.frame(frame), now["position"][alive], seeds.radius[alive]).max() < 2e-4
    assert debris.frame(1090)["alive"].mean() > 0.85
    assert np.mean(np.linalg.norm(debris.frame(1090)["velocity"], axis=1) < 0.05) > 0.9
    assert [len(debris.frame(frame)["alive"]) for frame in (1001, 1010, 1090)] == [np.sum(seeds.time <= t / 24) for t in (0, 9, 89)]


def test_resume_is_identical(taichi, tmp_path):
    """Stopped after 20 frames and gone on, or with the last frame damaged, every frame has the bytes of one run."""
    fragments, motion, seeds = rubble(tmp_path, 200, 20, 40)
    whole = run(tmp_path, fragments, motion, seeds, 40)
    path = tmp_path / "again"
    run(path, fragments, motion, seeds, 20)
    run(path, fragments, motion, seeds, 40, resume=True)
    (path / "debris" / "frame.1040.npz").write_bytes(b"half a frame")
    again = run(path, fragments, motion, seeds, 40, resume=True)
    for frame in range(1001, 1041):
        name = f"frame.{frame}.npz"
        assert (whole.folder.path / name).read_bytes() == (again.folder.path / name).read_bytes()


def test_pieces_are_independent(taichi, tmp_path):
    """A piece moves the same, bit for bit, whatever other pieces there are (same largest radius, which sets the grid)."""
    fragments, motion, seeds = rubble(tmp_path, 200, 20, 30)
    keep = np.unique(np.append(np.arange(0, 200, 3), np.argmax(seeds.radius)))
    few = Seeds(**{k: (v[keep] if len(v) == 200 else v) for k, v in vars(seeds).items()})
    one, other = run(tmp_path, fragments, motion, seeds, 30), run(tmp_path / "few", fragments, motion, few, 30)
    for frame in (1005, 1020, 1030):
        a, b = one.frame(frame)["position"], other.frame(frame)["position"]
        assert len(b) and np.array_equal(a[keep[keep < len(a)]], b)


def test_threads_and_no_pieces(taichi, tmp_path):
    """One thread in another process gives the bytes that two give here (512 pieces fill a thread); a shot without any, empty frames."""
    fragments, motion, seeds = rubble(tmp_path, 700, 20, 30)
    here = run(tmp_path, fragments, motion, seeds, 30)
    code = (
        "import sys; sys.path[:0] = ['.', 'tests']\nfrom pathlib import Path\n"
        "from shot.device import taichi_open\ntaichi_open('cpu', threads=1)\n"
        "from test_scatter import rubble, run\np = Path(sys.argv[1])\nf, m, s = rubble(p, 700, 20, 30)\nrun(p, f, m, s, 30)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "one")], check=True, cwd=Path(__file__).parent.parent)
    for frame in (1010, 1030):
        name = f"frame.{frame}.npz"
        assert (here.folder.path / name).read_bytes() == (tmp_path / "one" / "debris" / name).read_bytes()
    none = run(tmp_path / "none", fragments, motion, seeds_of(np.zeros((0, 3)), np.zeros((0, 3))), 2)
    assert none.frame(1002)["position"].shape == (0, 3)
