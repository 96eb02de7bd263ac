"""Columns of the solver's tables, between host and device and from one to another.

In: ti.ndarrays of scalars, vectors or matrices of f32, f64 or i32, and rows as numpy arrays. Out: the same rows on the other side.

On the CPU Taichi's arrays lie in the memory of this process, at an address that holds as long as the array does, and a kernel has ended
when its call returns. So a column is a few microseconds of numpy away; a kernel that copies it costs a hundred, and a step has a hundred
columns to copy. On other devices Taichi's own copies are used. No view leaves this file: it would not keep its array alive.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import taichi as ti
from taichi.lang import impl

KIND = {ti.f32: np.dtype(np.float32), ti.f64: np.dtype(np.float64), ti.i32: np.dtype(np.int32)}


def column_read(array: Any, rows: int | None = None) -> np.ndarray:
    """A copy of the first rows, or of all."""
    return (_view(array)[:rows] if _at_hand() else array.to_numpy()[:rows]).copy()


def column_write(array: Any, value: np.ndarray) -> None:
    """Set the first len(value) rows, cast to the column's type; further rows keep what they hold.

    Raises ValueError if the rows are of another shape or too many."""
    value = np.asarray(value)
    if value.shape[1:] != tuple(array.element_shape) or len(value) > array.shape[0]:
        raise ValueError(f"rows {value.shape} into a column of {array.shape[0]} rows of shape {tuple(array.element_shape)}")
    whole = _view(array) if _at_hand() else array.to_numpy()
    whole[: len(value)] = value
    if not _at_hand():
        array.from_numpy(np.ascontiguousarray(whole))


def column_rows(array: Any, rows: np.ndarray) -> np.ndarray:
    """Copies of these rows."""
    return (_view(array) if _at_hand() else array.to_numpy())[rows]


def column_set(array: Any, first: int, value: np.ndarray) -> None:
    """Set len(value) rows from `first` on. Raises ValueError if there are not as many."""
    whole = _view(array) if _at_hand() else array.to_numpy()
    whole[first : first + len(value)] = value
    if not _at_hand():
        array.from_numpy(np.ascontiguousarray(whole))


def column_copy(into: Any, source: Any) -> None:
    """All rows of a column into another of its type that has at least as many, on the device; further rows keep what they hold.

    Raises ValueError if they do not fit."""
    if into.dtype != source.dtype or tuple(into.element_shape) != tuple(source.element_shape) or into.shape[0] < source.shape[0]:
        raise ValueError(f"a column of {source.shape[0]} rows {source.dtype} does not fit into one of {into.shape[0]} {into.dtype}")
    if _at_hand():
        ctypes.memmove(_address(into), _address(source), column_bytes(source))
    elif into.shape == source.shape:
        into.copy_from(source)
    else:
        column_write(into, source.to_numpy())


def _at_hand() -> bool:
    return impl.current_cfg().arch in (ti.x64, ti.arm64)


def _address(array: Any) -> int:
    program: Any = impl.get_runtime().prog
    return program.get_ndarray_data_ptr_as_int(array.arr)


def column_bytes(array: Any) -> int:
    """Memory of a column."""
    elements = array.shape[0]
    for n in array.element_shape:
        elements *= n
    return elements * KIND[array.dtype].itemsize


def _view(array: Any) -> np.ndarray:
    """The rows themselves (n, *element). CPU only; valid while `array` lives."""
    memory: Any = (ctypes.c_char * column_bytes(array)).from_address(_address(array))
    return np.frombuffer(memory, KIND[array.dtype]).reshape(array.shape[0], *array.element_shape)
