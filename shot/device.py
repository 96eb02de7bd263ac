"""The one place that opens Taichi, and that sets how this thread rounds.

In: the wanted architecture and thread count. Out: Taichi initialised once per process. `fast_math` stays off because it
lets the compiler re-associate sums and so breaks "same shot, same bits"; the offline kernel cache is on so that a second
start compiles nothing. A second call with the same settings does nothing; with other settings it is an error, because a
second `ti.init` silently destroys every field.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, Literal

Arch = Literal["cpu", "cuda"]
LOCK_HELD = 60.0  # [s] longer than Taichi ever holds the lock of its kernel cache: it reads or writes an index
OTHERS = 3  # processes that draw, refine and make dust beside the one that simulates
_opened: tuple[str, int, bool] | None = None


def taichi_open(arch: Arch = "cpu", threads: int = 0, debug: bool = False) -> None:
    """Initialise Taichi once. `threads` 0 means DEMOLISH_THREADS, else all cores but those that the other processes of a run work on: a
    parallel loop waits for its slowest thread, and the sweeps are hundreds of loops a step. Raises RuntimeError on a second call that
    differs."""
    global _opened
    threads = threads or int(os.environ.get("DEMOLISH_THREADS", "0")) or max(1, (os.cpu_count() or 1) - OTHERS)
    debug = debug or os.environ.get("DEMOLISH_DEBUG", "") == "1"
    wanted = (arch, threads, debug)
    if _opened is not None:
        if _opened != wanted:
            raise RuntimeError(f"Taichi is open as {_opened}; a second start as {wanted} would wipe its fields")
        return
    import taichi as ti

    with contextlib.redirect_stdout(sys.stderr if debug else io.StringIO()):  # its greeting would mix with --json
        _init(ti, arch, threads, debug)
    from taichi.lang import impl

    if arch == "cuda" and impl.current_cfg().arch != ti.cuda:  # Taichi takes the CPU without a word
        from shot.errors import MissingResource

        raise MissingResource("Taichi finds no CUDA device: check that `nvidia-smi` lists one, or open the CPU")
    denormals_keep()
    if not debug:
        _positions_shorten()
    _sources_keep()
    _opened = wanted


def denormals_keep(on: bool = True) -> None:
    """Let this thread keep numbers too small for a normal float (IEEE 754), or take them as zero.

    Loading Taichi turns them off in the thread that loads it, opening an ONNX Runtime session turns them on: without a word from us
    what a stage computes would depend on what the process did before. They are kept, because scipy's KDTree recurses without end where
    the next number after a tie is taken as zero; Taichi's own threads flush them either way, so no kernel slows down.
    x86-64 with glibc: MXCSR is the last word of fenv_t; bits 15 flush results, 6 operands."""
    math = ctypes.CDLL("libm.so.6")
    environment = (ctypes.c_uint32 * 8)()
    math.fegetenv(ctypes.byref(environment))
    environment[7] = environment[7] & ~0x8040 if on else environment[7] | 0x8040
    math.fesetenv(ctypes.byref(environment))


def _lock_drop(cache: Path) -> None:
    """Remove the lock of Taichi's kernel cache if who held it was killed: no later run could keep or find a kernel, and each would compile
    them all again with two lines of warning."""
    lock = cache / "ticache.lock"
    with contextlib.suppress(OSError):
        if time.time() - lock.stat().st_mtime > LOCK_HELD:
            lock.unlink()


def _init(ti: Any, arch: Arch, threads: int, debug: bool) -> None:
    _lock_drop(Path(os.environ.get("TI_OFFLINE_CACHE_FILE_PATH") or ti.lang.impl.default_cfg().offline_cache_file_path))
    ti.init(
        arch={"cpu": ti.cpu, "cuda": ti.cuda}[arch],
        cpu_max_num_threads=threads,
        debug=debug,
        fast_math=False,
        default_fp=ti.f32,
        default_ip=ti.i32,
        offline_cache=True,
        log_level=ti.WARN,
    )


def _positions_shorten() -> None:
    """Let Taichi write down less of where things are: of a syntax node file, line and source, not the line with carets; of an array
    nothing, instead of the text of all calls that led to it.

    It does so for every node of every kernel, wanted or not: half of the time that a kernel from the offline cache takes to start. For an
    array it takes up to 2 ms, by the depth of the stack."""
    from taichi.lang import _ndarray, matrix
    from taichi.lang.ast.ast_transformer_utils import ASTTransformerContext

    def position(self: Any, node: Any) -> str:
        source = self.src[node.lineno - 1].strip()
        return f'File "{self.file}", line {node.lineno + self.lineno_offset}, in {self.func.func.__name__}:\n{source}\n'

    ASTTransformerContext.get_pos_info = position
    for module in (_ndarray, matrix):
        vars(module)["get_traceback"] = lambda stacklevel=1: ""


def _sources_keep() -> None:
    """Let Taichi look up the source of a function once, not wherever a kernel calls it: 1 600 times a start, a tenth of its time."""
    from taichi.lang import kernel_impl

    kernel_impl.getsourcelines, kernel_impl.getsourcefile = cache(kernel_impl.getsourcelines), cache(kernel_impl.getsourcefile)


def taichi_ready() -> None:
    """Open Taichi on the CPU unless this process has opened it already: for kernels that run the same on any device."""
    if _opened is None:
        taichi_open("cpu")
