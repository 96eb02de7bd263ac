# pyright: basic
"""A kernel with its arguments already handed over: launched again, only its numbers are set.

In: a kernel of the form (pack, numbers ..., tuning) or (pack, numbers ...), its argument pack, the tuning. Out: a callable of the numbers.

Taichi 1.7 checks and hands over every array of a pack and every member of a struct anew at each call, in Python: 0.4 ms for 30 arrays and
26 scalars, and a step makes six such calls, or a hundred if it solves in parallel. What it prepares (a launch context) can be launched
again in 10 us if its arrays were handed over as bare addresses, which a launch leaves alone (40 us as arrays, set anew each time). On
other devices than the CPU, in debug mode, whose errors need Taichi's own call, and where `kernel` is a function that calls kernels,
this is a plain call.
"""

from __future__ import annotations

from typing import Any

import taichi as ti
from taichi.lang import impl

from sim.column import column_bytes


def compiled_lightly(kernel: Any) -> Any:
    """Leave out Taichi's own flow analysis of a kernel that is long rather than hot; the bits are the same.

    Its time grows with the square of a kernel's length: manifolds took 76 s to compile with it and 14 without, at 3 % of their speed. The
    sweeps would lose a quarter."""
    kernel.compiled_lightly = True
    return kernel


class Launch:
    """`kernel` on `pack`, with `tune` as its last argument if there is one. Valid as long as the pack's arrays are."""

    def __init__(self, kernel: Any, pack: Any, tune: Any = None):
        self.kernel, self.pack, self.tune = kernel, pack, tune
        self.prepared: tuple | None = None

    def __call__(self, *numbers: int | float) -> None:
        """Run the kernel."""
        config: Any = impl.current_cfg()
        if config.debug or config.arch not in (ti.x64, ti.arm64) or not hasattr(self.kernel, "_primal"):
            self.kernel(self.pack, *numbers, *(() if self.tune is None else (self.tune,)))
            return
        if self.prepared is None:
            self.prepared = self._prepare(numbers)
        program, compiled, context = self.prepared
        context.set_arg_argpack((0,), self.pack._ArgPack__argpack)  # a launch puts an address in its place
        for place, number in enumerate(numbers, 1):
            (context.set_arg_float if isinstance(number, float) else context.set_arg_int)((place,), number)
        program.launch_kernel(compiled, context)

    def _prepare(self, numbers: tuple) -> tuple:
        """Compile if need be, and set all but the numbers: what taichi.lang.kernel_impl.Kernel.launch_kernel does."""
        primal = self.kernel._primal
        arguments = (self.pack, *numbers, *(() if self.tune is None else (self.tune,)))
        kernel = primal.compiled_kernels[primal.ensure_compiled(*arguments)]
        program: Any = impl.get_runtime().prog
        context = kernel.make_launch_context()
        members = enumerate(primal.arguments[0].annotation.members, len(arguments))  # the arrays of a pack follow all arguments
        for place, name in members:
            array = self.pack[name]
            address = program.get_ndarray_data_ptr_as_int(array.arr)
            context.set_arg_external_array_with_shape((place,), address, column_bytes(array), list(array.shape), 0)
        if self.tune is not None:
            place = len(arguments) - 1
            primal.arguments[place].annotation.set_kernel_struct_args(self.tune, context, (place,))
        config = program.config()
        config.cfg_optimization = not hasattr(self.kernel, "compiled_lightly")
        try:
            compiled = program.compile_kernel(config, program.get_device_caps(), kernel)
        finally:
            config.cfg_optimization = True
        return program, compiled, context
