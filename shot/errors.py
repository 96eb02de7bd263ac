"""Errors a person can act on, each with the exit code that a pipeline reads.

Raised at borders (shot files, meshes, folders, devices); everything else that escapes is an internal error, code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DemolishError(Exception):
    """Base: one clear sentence for people, one exit code for machines."""

    exit_code = 1


class ShotError(DemolishError):
    """A shot file, key, value or asset that cannot be used: says file, key, value and what is allowed."""

    exit_code = 3


class FramesFailed(DemolishError):
    """Some frames could not be made; the others are on disk."""

    exit_code = 4


class MissingResource(DemolishError):
    """A device, library, model, folder or disk space that is not there: says how to get it."""

    exit_code = 5


class RegressionFailed(DemolishError):
    """A regression suite differs from its reference."""

    exit_code = 6


class SimulationFailed(DemolishError):
    """A bad state in a solver: says frame, fragment and cause. Nothing of that frame is written."""

    exit_code = 1


def nearest(word: str, known: Iterable[str]) -> str:
    """', did you mean X?' for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f", did you mean {close[0]}?" if close else ""
