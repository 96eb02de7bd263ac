"""Shared fixtures: one Taichi per process, with two threads whoever opens it and however many cores there are."""

from __future__ import annotations

import os

import pytest

os.environ["DEMOLISH_THREADS"] = "2"  # stages open Taichi themselves; a second start with another count is an error


@pytest.fixture(scope="session")
def taichi():
    """Taichi on the CPU, opened once for the whole test process."""
    from shot.device import taichi_open

    taichi_open("cpu")
    import taichi as ti

    return ti
