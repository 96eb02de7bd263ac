"""Whole buildings against the mechanics of collapses: what must stand stands, what must fall falls, how fast, and to which side.

References: free fall; Bazant and Verdure (2007) for crushing fronts, here as the balance of weight and crushing strength below; Starossek
(2009) for the types of progressive collapse. The frames are bare, so that an estimate by hand holds. With N columns of section A to a
storey a block of weight W stands when W < N A f_c. Once falling it does not stop when what it lands on bears less, crushed:
`Sim.crush_residual` N A f_c < W. Until it is crushed that takes N A f_c over some centimetres, little against W times the drop.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from assets.building import build
from shot.frames import FrameFolder
from shot.params import Building, Event, Fracture, Material, Materials, Shot, Sim
from shot.results import BOND_BROKEN, BOND_INTACT, Bonds, Fragments, progress_silent
from sim.fracture import shatter

pytestmark = [pytest.mark.usefixtures("taichi"), pytest.mark.slow]
SEED = 1
G, FPS = 9.81, 24.0
FAR = 99.0
PIECE = Fracture(piece=1.5)


@dataclass(frozen=True)
class Fall:
    """A run: (T, F, 3) positions [m] and velocities [m/s], (T, B) states of bonds; masses (F) [kg] and heights at rest (F) [m]."""

    fragments: Fragments
    bonds: Bonds
    position: np.ndarray
    velocity: np.ndarray
    state: np.ndarray

    @property
    def rest(self) -> np.ndarray:
        """(F) heights before anything moved."""
        return self.position[0, :, 1]

    def mean(self, values: np.ndarray, part: np.ndarray) -> np.ndarray:
        """(T, 3) means of (T, F, 3) values over a part (F) of the building, by mass."""
        return np.average(values[:, part].astype(float), axis=1, weights=self.fragments.mass[part])

    def sink(self, part: np.ndarray) -> np.ndarray:
        """(T) how far a part has come down [m]."""
        height = self.mean(self.position, part)[:, 1]
        return height[0] - height

    def weight(self, above: float) -> float:
        """Weight [N] of all that lies above a height at rest."""
        return float(G * self.fragments.mass[self.rest > above].sum())


def bare(
    storeys: int, bays: tuple[int, int], bay: float, column: float, beam: tuple[float, float] = (0.4, 0.25), slab: float = 0.18
) -> Building:
    """A frame with nothing in it: bays along x and z, depth and width of the beams [m]."""
    return Building(
        storeys=storeys, bays_x=bays[0], bays_z=bays[1], bay=bay, column=column, beam_depth=beam[0], beam_width=beam[1], slab=slab,
        core=False, infill=0, facade=0, balcony=0, parapet=0,
    )


def collapse(folder: Path, shot: Shot) -> Fall:
    """Build, cut and run a shot."""
    from sim.simulate import simulate

    building = build(shot, FrameFolder(folder / "building"), folder, progress_silent)
    fragments, bonds = shatter(shot, building, FrameFolder(folder / "shatter"), progress_silent)
    motion = simulate(shot, fragments, bonds, FrameFolder(folder / "motion"), shot.frame_range, progress_silent)
    seen = [motion.frame(f) for f in shot.frame_range]
    return Fall(fragments, bonds, *(np.stack([frame[key] for frame in seen]) for key in ("position", "velocity", "bond_state")))


def columns_cut(lower: tuple[float, float, float], upper: tuple[float, float, float], rubble: float = 0.65) -> Event:
    """Cut the columns of a box so that the second frame is the first that shows it."""
    return Event(frame=1002, lower=lower, upper=upper, members=("column",), rubble=rubble)


def strength(shot: Shot, columns: int) -> float:
    """N A f_c of a storey's columns [N]."""
    return columns * shot.building.column**2 * shot.materials.concrete.compression


def free_fall(fall: Fall, part: np.ndarray, drop: float) -> float:
    """Acceleration [m/s2] of a part while it comes down by less than `drop`: slope of its velocity over the frames."""
    frames = np.arange(np.argmax(fall.sink(part) >= drop))
    assert len(frames) > 5, "comes down by that"
    return float(-np.polyfit(frames / FPS, fall.mean(fall.velocity, part)[frames, 1], 1)[0])


def slender(frames: int, *cut: Event) -> Shot:
    """Five storeys, two bays by one of 5 m, six columns of 0.3 m.

    A storey weighs 50 m2 x 0.18 m of slab, 33 m of beams 0.4 x 0.25 and 6 columns: 0.32 MN. All five on the ground floor's N A f_c =
    6 x 0.09 m2 x 30 MPa = 16 MN: 0.10 of the strength. Stands ten times over, and bears half the weight when crushed.
    """
    building = bare(5, (2, 1), 5.0, column=0.3)
    concrete = Materials(concrete=Material(steel=0.006))
    return Shot(seed=SEED, frames=frames, building=building, materials=concrete, fracture=PIECE, events=cut)


def test_block_stands_untouched(tmp_path, record_property):
    """Three storeys with infill and facades, 10 s: no bond breaks and no position changes by a bit."""
    shot = Shot(seed=SEED, frames=241, building=Building(storeys=3, bays_x=2, bays_z=2), fracture=PIECE)
    fall = collapse(tmp_path, shot)
    record_property("fragments, bonds not intact", f"{fall.fragments.count}, {int((fall.state[-1] != BOND_INTACT).sum())}")
    assert (fall.state == BOND_INTACT).all()
    assert (fall.position == fall.position[0]).all()


def test_frame_bridges_a_lost_column(tmp_path, record_property):
    """One outer ground-floor column less: beams span 8 m in place of 4 and carry it, nothing else breaks, 2 s.

    A floor hangs 8 m2 of slab and 6 m of beams on that column: P = 54 kN. Clamped over both bays: P L / 8 = 54 kNm.
    A beam of 0.45 x 0.3 m with 1.5 % of steel, half of it in tension, bears 1 000 mm2 x 500 MPa x 0.4 m = 0.2 MNm.
    """
    building = bare(3, (3, 2), 4.0, column=0.45, beam=(0.45, 0.3))
    cut = columns_cut((-2.5, -0.1, 3.5), (-1.5, 2.5, 4.5))
    fall = collapse(tmp_path, Shot(seed=SEED, frames=49, building=building, fracture=PIECE, events=(cut,)))
    broken = (fall.state == BOND_BROKEN).sum(axis=1)
    sunk = float((fall.rest - fall.position[-1, :, 1])[fall.rest > 2.9].max())
    record_property("bonds cut, broken at the end, deepest sink [m]", f"{broken[1]}, {broken[-1]}, {sunk:.4f}")
    assert broken[1] >= 2, "foot and middle of the column"
    assert broken[-1] <= broken[1] + 3 and sunk < 0.05


def test_progressive_collapse(tmp_path, record_property):
    """All ground-floor columns cut: g while the gap is open, and then storey after storey: W is twice what crushed columns bear.

    Each cut column is two pieces that lose 0.65 of their length about their middles, and the upper one hangs on: a gap of
    0.65 x 2.82 m / 2 = 0.92 m.
    """
    shot = slender(97, columns_cut((-FAR, 0.2, -FAR), (FAR, 2.5, FAR)))
    fall = collapse(tmp_path, shot)
    above = fall.rest > 2.9
    roof = fall.rest > fall.rest.max() - 0.3
    share = fall.weight(2.9) / strength(shot, 6)
    fallen, height = fall.sink(roof), float(fall.rest[roof].mean())
    g = free_fall(fall, above, 0.9 * 0.92)
    record_property("weight over strength of columns", round(share, 3))
    record_property("acceleration in the gap [m/s2]", round(g, 3))
    record_property("roof comes down by, of", f"{fallen[-1]:.2f} of {height:.2f} m")
    assert 1.5 * Sim().crush_residual < share < 0.5
    assert g == pytest.approx(G, rel=0.03)
    assert fallen[-1] > 0.5 * height


def test_verinage(tmp_path, record_property):
    """Two middle storeys of eight cut: three storeys fall with g through the gap, are jolted as they land, and crush what is below.

    Gap: two clear heights of 3 - 0.25 - 0.4 = 2.35 m; the floor between falls along. Four columns of 0.25 m and 20 MPa bear 5 MN.
    All storeys weigh 2.3 MN: it stands. Stirrups hold the columns' cores, which bear a fifth once crushed (Kent and Park 1971): the block's
    1.1 MN is more than 1.0 MN, it goes on. Where columns still bear 5 MN they slow the block: a jolt, the roof's velocity drops from one
    frame to the next although gravity goes on. (Without stirrups, at 0.05, the block is jolted and the roof goes on with 0.6 g.)
    """
    building = bare(8, (1, 1), 6.0, column=0.25, slab=0.25)
    materials = Materials(concrete=Material(steel=0.006, compression=20e6))
    cut = columns_cut((-FAR, 9.1, -FAR), (FAR, 14.9, FAR), rubble=0.95)
    held = 0.2
    shot = Shot(
        seed=SEED, frames=73, building=building, materials=materials, fracture=PIECE, events=(cut,), sim=Sim(crush_residual=held)
    )
    fall = collapse(tmp_path, shot)
    block = fall.rest > 15.0 - 0.7
    roof = fall.rest > fall.rest.max() - 0.3
    fallen, speed, height = fall.sink(roof), -fall.mean(fall.velocity, roof)[:, 1], float(fall.rest[roof].mean())
    g = free_fall(fall, block, 0.9 * 4.7)
    lands = int(np.argmax(np.diff(speed) < 0)) + 1  # without resistance every frame adds g / fps = 0.41 m/s
    record_property("acceleration in the gap [m/s2]", round(g, 3))
    record_property("jolt: speed before and after [m/s], fallen [m]", f"{speed[lands - 1]:.2f} {speed[lands]:.2f} {fallen[lands]:.2f}")
    record_property("roof comes down by, of", f"{fallen[-1]:.2f} of {height:.2f} m")
    bears = strength(shot, 4)
    assert fall.weight(0) < 0.5 * bears and fall.weight(14.3) > held * bears
    assert g == pytest.approx(G, rel=0.05)
    assert 0.9 * 4.7 < fallen[lands] < 4.7 + 3.0, "a jolt, past the gap and at most the storey that is crushed first"
    assert fallen[-1] > 0.5 * height


def test_falls_to_the_side_that_was_cut(tmp_path, record_property):
    """Two of three rows cut: what is left cannot hold the block, which comes down to the cut side, mirrored when the cut is.

    1.6 MN whose centre is 5 m beside the two columns left: 8 MNm. Those bear 0.3 MNm at most: their bars 2 x 270 mm2 x 500 MPa x 0.24 m,
    and the weight on them 2 x 0.8 MN x 0.15 m x (1 - 0.8 MN / 2.7 MN).
    Way of the centre of mass of all above the ground floor until it has come down by half: the fall, not the spreading of the heap.
    Pieces and strengths are not mirrored: single ways scatter by 15 % of their mean, so means of three are some 12 % apart;
    twice that passes.
    """
    ways = np.zeros((3, 2, 2))
    for run in range(3):
        for k, side in enumerate((1, -1)):
            box = ((-0.5, 0.2, -FAR), (FAR, 2.5, FAR)) if side > 0 else ((-FAR, 0.2, -FAR), (0.5, 2.5, FAR))
            shot = slender(49, columns_cut(*box)).model_copy(update={"seed": SEED + run})
            fall = collapse(tmp_path / f"{run}{k}", shot)
            above = fall.rest > 2.9
            centre = fall.mean(fall.position, above)
            half = int(np.argmax(centre[:, 1] < 0.5 * centre[0, 1]))
            assert half > 0, "comes down by half"
            ways[run, k] = side * (centre[half] - centre[0])[[0, 2]]
    angle = np.degrees(np.arctan2(np.abs(ways[..., 1]), ways[..., 0]))
    record_property("ways to the cut side [m], cut +x", " ".join(f"{way:.2f}" for way in ways[:, 0, 0]))
    record_property("ways to the cut side [m], cut -x", " ".join(f"{way:.2f}" for way in ways[:, 1, 0]))
    record_property("farthest aside [deg]", round(float(angle.max()), 1))
    length = np.linalg.norm(ways, axis=2).mean(axis=0)
    assert angle.max() < 20
    assert length.max() < 1.25 * length.min()
