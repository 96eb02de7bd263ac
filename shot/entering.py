"""Bodies that an event brings in between two frames.

In: the poses of a frame and of the one before. Out: the earlier poses, in which what has come in since moves in along its velocity instead
of rising from where it was kept (`PARKED`). For everything that looks at the way between two frames: debris, dust, motion vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shot.results import PARKED


def waiting(position: np.ndarray) -> np.ndarray:
    """(F) bool: not there yet, by the positions (F, 3) of a frame."""
    return position[:, 1] < 0.5 * PARKED


def entered(before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray], seconds: float) -> dict[str, np.ndarray]:
    """The arrays `before`, with what has come in by `now`, `seconds` later, put behind it on its way."""
    new = waiting(before["position"]) & ~waiting(now["position"])
    if not new.any():
        return dict(before)
    back = now["position"] - seconds * now["velocity"]
    return {
        **before,
        "position": np.where(new[:, None], back, before["position"]).astype(before["position"].dtype),
        "rotation": np.where(new[:, None], now["rotation"], before["rotation"]),
    }
