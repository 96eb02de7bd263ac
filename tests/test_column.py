"""Columns between host and device: the rows asked for, exactly, and no others; by memory and by Taichi's own copies."""

import numpy as np
import pytest

from sim.layout import BODY, CONTACT, FRAGMENT, JOINT

ROWS = 5


@pytest.fixture(params=["memory", "kernels"])
def column(request, taichi, monkeypatch):
    """The module, once as it runs on the CPU and once as on other devices."""
    from sim import column

    if request.param == "kernels":
        monkeypatch.setattr(column, "_at_hand", lambda: False)
    return column


def filled(column, element, rows=ROWS):
    """An array of this element and the values that it was given, denormals and signed zeros among them."""
    import taichi as ti

    array = ti.ndarray(element, rows)
    kind = column.KIND[array.dtype]
    values = np.random.default_rng(rows).normal(0, 1000, (rows, *array.element_shape)).astype(kind)
    values.flat[:2] = np.array([1e-40, -0.0], kind)
    column.column_write(array, values)
    return array, values


@pytest.mark.parametrize("table", [BODY, FRAGMENT, CONTACT, JOINT], ids=["body", "fragment", "contact", "joint"])
def test_every_element_type_comes_back_bit_for_bit(column, table):
    """What was written is read, by this module and by Taichi, bit for bit."""
    for name, element in table.items():
        array, values = filled(column, element)
        assert column.column_read(array).tobytes() == values.tobytes() == array.to_numpy().tobytes(), name


@pytest.mark.parametrize("table", [BODY, FRAGMENT, CONTACT, JOINT], ids=["body", "fragment", "contact", "joint"])
def test_a_new_array_is_zero(taichi, table):
    """Tables rely on it, also where the memory was another array's a moment ago."""
    from sim import column

    for element in table.values():
        for rows in (3, 3, 40000):
            array = taichi.ndarray(element, rows)
            assert not column.column_read(array).any()
            column.column_write(array, np.ones((rows, *array.element_shape)))
            del array


def test_rows_in_use_are_read_and_written_alone(column):
    """Fewer rows than there is room for leave the others as they are, and what is read does not follow the device."""
    array, values = filled(column, BODY["inertia"])
    before = column.column_read(array, 2)
    column.column_write(array, np.full((3, 3, 3), 7.0))
    assert (before == values[:2]).all()
    assert (array.to_numpy()[:3] == 7).all() and (array.to_numpy()[3:] == values[3:]).all()


def test_copy_into_a_longer_column(column):
    """Rows beyond the source keep what they hold."""
    (short, few), (long, many) = filled(column, JOINT["limit"], 3), filled(column, JOINT["limit"], 9)
    column.column_copy(long, short)
    assert (long.to_numpy()[:3] == few).all() and (long.to_numpy()[3:] == many[3:]).all()


def test_what_does_not_fit_is_refused(column):
    """Too many rows or another element raise, before memory beyond the array is touched."""
    (short, few), (long, many) = filled(column, BODY["v"], 3), filled(column, BODY["v"], 9)
    other, _ = filled(column, BODY["x"], 3)
    for attempt in (
        lambda: column.column_write(short, many), lambda: column.column_write(short, few[:, :2]),
        lambda: column.column_copy(short, long), lambda: column.column_copy(other, short),
    ):
        with pytest.raises(ValueError):
            attempt()
