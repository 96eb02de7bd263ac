"""Shared fixtures: one Taichi per process, with two threads whoever opens it and however many cores there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ["DEMOLISH_THREADS"] = "2"  # stages open Taichi themselves; a second start with another count is an error


@pytest.fixture(scope="session")
def taichi(tmp_path_factory):
    """Taichi on the CPU, opened once for the whole test process.

    Taichi keeps compiled kernels when a process ends. Where there are none yet, a child simulates two frames first: else each process
    that tests start would compile all of them, beside this one."""
    import taichi as ti
    from taichi.lang import impl

    from shot.device import taichi_open

    kernels = Path(os.environ.get("TI_OFFLINE_CACHE_FILE_PATH") or impl.default_cfg().offline_cache_file_path)
    if next(kernels.rglob("*.tic"), None) is None:
        folder = tmp_path_factory.mktemp("kernels")
        shot = str(ROOT / "tests" / "shots" / "tiny_frame.toml")
        command = [sys.executable, "-P", str(ROOT / "cli.py"), "run", shot, "--to", "simulate", "--frames", "1001-1002", "-q"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "DEMOLISH_CACHE": str(folder)}
        subprocess.run([*command, "-o", str(folder / "out")], cwd=folder, env=environment, check=True)
    taichi_open("cpu")
    return ti
