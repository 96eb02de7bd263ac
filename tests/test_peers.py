"""The measure of overlap and the scenes of `bench.peers`, against geometry known in closed form."""

import numpy as np
import pytest

from bench.contact import CORNERS, Scene, boxes
from bench.peer.overlap import axes_of, depth_of, overlaps_measure
from bench.peer.scenes import SCENES, icosphere, peer_scene
from bench.peers import missing
from shot.rotation import rotate
from sim.pairs import box_pairs

CUBE = CORNERS * 0.5
UPRIGHT = np.array([1.0, 0, 0, 0])


def turned(points: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Points turned by one q."""
    return rotate(np.tile(q, (len(points), 1)), points)


def depth(a: np.ndarray, b: np.ndarray) -> float:
    """Depth of two hulls."""
    return depth_of(a, b, axes_of(a), axes_of(b))


def test_faces_overlap_by_the_least_axis():
    """Cubes shifted by (0.9, 0.2, 0.1) part along x after 0.1."""
    assert depth(CUBE, CUBE + [0.9, 0.2, 0.1]) == pytest.approx(0.1, abs=1e-12)
    assert depth(CUBE, CUBE + [1.05, 0.2, 0.1]) == pytest.approx(-0.05, abs=1e-12)


def test_edges_part_on_their_cross_product():
    """Two cubes edge on edge at right angles: the axis is neither's face normal, and the gap is distance - 2 half-diagonals."""
    half = np.pi / 8
    a = turned(CUBE, np.array([np.cos(half), np.sin(half), 0, 0]))  # an edge along x on top
    b = turned(CUBE, np.array([np.cos(half), 0, 0, np.sin(half)]))  # an edge along z below
    for gap in (0.02, -0.02):
        assert depth(a, b + [0, np.sqrt(2) + gap, 0]) == pytest.approx(-gap, abs=1e-12)


def test_depth_does_not_turn_with_the_pair():
    """A turn of both hulls leaves their depth."""
    draw = np.random.default_rng(0)
    a, b = icosphere(), icosphere() * 0.7 + [1.2, 0.5, 0.3]
    q = draw.normal(size=4)
    q /= np.linalg.norm(q)
    assert depth(turned(a, q), turned(b, q)) == pytest.approx(depth(a, b), abs=1e-9)
    assert 0.2 < depth(a, b) < 1.7 - np.sqrt(1.2**2 + 0.5**2 + 0.3**2) + 1e-12  # hulls lie inside their spheres


def test_axes_name_each_direction_once():
    """A cube has three normals and three edge directions, its triangles' diagonals are no edges."""
    normal, edge = axes_of(CUBE)
    assert len(normal) == 3 and len(edge) == 3


def test_grid_finds_all_boxes():
    """The grid of sim/pairs.py agrees with all pairs."""
    draw = np.random.default_rng(1)
    lower = draw.uniform(0, 4, (80, 3))
    upper = lower + draw.uniform(0.1, 1.5, (80, 3))
    touch = ((lower[:, None] < upper[None]) & (lower[None] < upper[:, None])).all(axis=2)
    assert box_pairs(lower, upper).tolist() == np.argwhere(np.triu(touch, 1)).tolist()


def test_measure_of_a_scene():
    """Two of three cubes overlap by 3 cm; the lowest is 2 cm under the ground."""
    scene = peer_scene(Scene(boxes([[0, 0.48, 0], [0, 1.45, 0], [3, 0.5, 0]], [[0.5] * 3] * 3)))
    found, ground, share = overlaps_measure(scene, scene.position, np.tile(UPRIGHT, (3, 1)), 100)
    assert found == pytest.approx([0.03], abs=1e-6) and ground.max() == pytest.approx(0.02, abs=1e-6) and share == 1


def test_the_tower_stands_clear():
    """1000 bricks of 494 kg and a ball of 100 t, boxes but for the ball; nothing overlaps and the ball aims at the tower."""
    scene = peer_scene(SCENES["a1000"][0]())
    assert scene.count == 1001 and np.isnan(scene.half[:, 0]).sum() == 1
    assert scene.mass[:-1] == pytest.approx(0.996 * 0.496 * 0.5 * 2000, rel=1e-4) and scene.mass[-1] == pytest.approx(1e5)
    found, ground, _ = overlaps_measure(scene, scene.position, scene.rotation, 10_000)
    assert (found < 1e-5).all() and ground.max() < 1e-5
    away = scene.position[-1] + scene.velocity[-1] * 0.3
    assert np.abs(away[[0, 2]]).max() < 5.25


def test_a_peer_that_is_not_there_is_said_so(monkeypatch, tmp_path):
    """Without an environment the row says how to make one; our own solver is never missing."""
    monkeypatch.setenv("DEMOLISH_PEERS_PYTHON", str(tmp_path / "python"))
    assert "not installed" in missing("rapier") and missing("demolish") == ""
