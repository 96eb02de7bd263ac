"""Rows of the per-body tables are where the ids look for them: fragments from 0, the ground behind them, debris behind the ground."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from render.scene_tables import body_poses, body_table
from shot.params import Shot
from shot.results import Seeds
from shot.rotation import matrix
from tests.draw_scene import fragments_of

LOWER = np.array([[0.0, 0, 0], [2, 0, 0]])
FRAGMENTS = fragments_of(LOWER, LOWER + 1, np.array([2, 1]))
RADIUS = np.array([0.1, 0.2, 0.4], np.float32)
PLACE = np.array([[7.0, 1, 0], [8, 2, 0], [9, 3, 0]], np.float32)
TURN = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], np.float32)


def seeds() -> Seeds:
    """Three pieces that differ in all a table tells of them."""
    three, none = np.zeros((3, 3), np.float32), np.zeros(0)
    return Seeds(np.zeros(3), PLACE, three, three, RADIUS, np.ones(3, np.float32), np.array([0, 1, 2], np.int16), np.zeros(3, np.int32),
                 none, np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), none.astype(np.float32), none, none, none)


class Still:
    """A result whose frames are all alike."""

    def __init__(self, **arrays: np.ndarray):
        self.arrays = arrays

    def frame(self, frame: int) -> Mapping[str, np.ndarray]:
        """The same at every frame."""
        return self.arrays


def test_rest_and_material_of_every_body():
    """Rest position and material row: of each fragment, of the ground (the row behind all materials), of each piece."""
    table = body_table(Shot(), FRAGMENTS, seeds())
    np.testing.assert_array_equal(table[:, :3], [*FRAGMENTS.position, (0, 0, 0), *PLACE])
    np.testing.assert_array_equal(table[:, 4], [2, 1, len(FRAGMENTS.material_name), 0, 1, 2])
    assert len({*table[:, 5]}) == 6  # every one has its own seed


def test_pose_of_every_body():
    """Position, turn and size: of each fragment, of the ground at rest, of each piece; which pieces are there."""
    motion = Still(position=LOWER + 5, rotation=TURN[1:], velocity=np.zeros((2, 3)))
    debris = Still(position=PLACE + 1, rotation=TURN, velocity=np.zeros((3, 3)), alive=np.array([True, False, True]))
    poses = body_poses(Shot(), FRAGMENTS, motion, seeds(), debris, 1005)
    np.testing.assert_array_equal(poses.position, [*(LOWER + 5), (0, 0, 0), *(PLACE + 1)])
    size = np.array([1, 1, 1, *RADIUS.astype(float)])[:, None, None]
    np.testing.assert_array_equal(poses.linear, size * matrix(np.array([*TURN[1:], (1, 0, 0, 0), *TURN])))
    np.testing.assert_array_equal(poses.alive, [True, False, True])
