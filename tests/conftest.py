"""Shared fixtures: one Taichi per process, small results built in memory."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def taichi():
    """Taichi on the CPU, opened once for the whole test process."""
    from shot.device import taichi_open

    taichi_open("cpu", threads=2)
    import taichi as ti

    return ti
