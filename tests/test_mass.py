"""Mass properties and plane sections against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from building_boxes import box_mesh

from shot.rotation import matrix
from sim.mass import mass_properties, segment_sum
from sim.section import clip_polygon, sections_of

ROUND = 1e-12  # f64 sums of a few dozen terms
TURN = matrix(np.array([0.8, 0.2, -0.5, 0.26]) / np.linalg.norm([0.8, 0.2, -0.5, 0.26]))
TETRA = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def one(vertex, face):
    """Mass properties of a single mesh."""
    vertex = np.asarray(vertex, float)
    volume, centre, inertia = mass_properties(vertex, np.array([0, len(vertex)]), face, np.array([0, len(face)]))
    return volume[0], centre[0], inertia[0]


def test_box():
    """V = abc, I_xx = V (b^2 + c^2) / 12 about the middle, wherever the box stands."""
    a, b, c = 1.5, 0.4, 2.5
    volume, centre, inertia = one(*box_mesh((3, -2, 7), (3 + a, -2 + b, 7 + c)))
    assert volume == pytest.approx(a * b * c, rel=ROUND)
    np.testing.assert_allclose(centre, (3 + a / 2, -2 + b / 2, 7 + c / 2), rtol=ROUND)
    want = np.diag([b * b + c * c, a * a + c * c, a * a + b * b]) * a * b * c / 12
    np.testing.assert_allclose(inertia, want, atol=ROUND * want.max())


def test_tetrahedron():
    """Corner tetrahedron: V = abc/6, centroid (a, b, c)/4, I_xx = 3V/80 (b^2 + c^2), I_xy = +V ab/80."""
    a, b, c = 2.0, 3.0, 0.7
    volume, centre, inertia = one([[0, 0, 0], [a, 0, 0], [0, b, 0], [0, 0, c]], TETRA)
    want = np.array([
        [3 * (b * b + c * c), a * b, a * c],
        [a * b, 3 * (a * a + c * c), b * c],
        [a * c, b * c, 3 * (a * a + b * b)],
    ]) * a * b * c / 6 / 80
    assert volume == pytest.approx(a * b * c / 6, rel=ROUND)
    np.testing.assert_allclose(centre, (a / 4, b / 4, c / 4), rtol=ROUND)
    np.testing.assert_allclose(inertia, want, atol=ROUND * want.max())


def test_pyramid():
    """Square pyramid: V = a^2 h / 3, centroid at h/4 (its corners' mean: h/5), I_yy = V a^2 / 10, I_xx = V (a^2/20 + 3 h^2/80)."""
    a, h = 1.2, 2.0
    vertex = np.array([[-a, 0, -a], [-a, 0, a], [a, 0, a], [a, 0, -a], [0, 2 * h, 0]]) / 2
    volume, centre, inertia = one(vertex, np.array([[0, 2, 1], [0, 3, 2], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]))
    assert volume == pytest.approx(a * a * h / 3, rel=ROUND)
    np.testing.assert_allclose(centre, (0, h / 4, 0), atol=ROUND)
    side = volume * (a * a / 20 + 3 * h * h / 80)
    np.testing.assert_allclose(inertia, np.diag([side, volume * a * a / 10, side]), atol=ROUND)


def test_turned_and_far_away():
    """I' = R I R^T, whatever the distance from the origin: 1 km away costs the rounding of the coordinates and no more."""
    vertex, face = box_mesh((-0.5, -0.2, -0.9), (0.5, 0.2, 0.9))
    _, _, still = one(vertex, face)
    shift = np.array([1000.0, -700.0, 300.0])
    volume, centre, inertia = one(vertex @ TURN.T + shift, face)
    assert volume == pytest.approx(0.72, rel=1e-11)
    np.testing.assert_allclose(centre, shift, atol=1e-10)
    np.testing.assert_allclose(inertia, TURN @ still @ TURN.T, atol=1e-11)


def test_regular_prism():
    """n-gon prism about its axis: I = V R^2 / 2 (1 - 2/3 sin^2(pi/n)), which tends to the cylinder's V R^2 / 2."""
    n, radius, height = 12, 0.6, 2.0
    angle = 2 * np.pi * np.arange(n) / n
    ring = np.stack([radius * np.cos(angle), np.zeros(n), -radius * np.sin(angle)], axis=1)  # counter-clockwise seen from +y
    vertex = np.concatenate([ring, ring + [0, height, 0]])
    k, after = np.arange(n), (np.arange(n) + 1) % n
    side = np.concatenate([np.stack([k, after, after + n], 1), np.stack([k, after + n, k + n], 1)])
    caps = [(0, j + 1, j) for j in range(1, n - 1)] + [(n, n + j, n + j + 1) for j in range(1, n - 1)]
    volume, _, inertia = one(vertex, np.concatenate([side, caps]))
    assert volume == pytest.approx(n / 2 * radius**2 * np.sin(2 * np.pi / n) * height, rel=ROUND)
    assert inertia[1, 1] == pytest.approx(volume * radius**2 / 2 * (1 - 2 / 3 * np.sin(np.pi / n) ** 2), rel=ROUND)


def test_many_at_once():
    """A batch of meshes gives each one what it gets alone, bit for bit."""
    meshes = [box_mesh((0, 0, 0), (1, 2, 3)), (np.eye(4, 3, k=-1), TETRA), box_mesh((5, 5, 5), (6, 6.5, 9))]
    vertex_start = np.cumsum([0] + [len(v) for v, _ in meshes])
    face_start = np.cumsum([0] + [len(f) for _, f in meshes])
    batch = mass_properties(
        np.concatenate([v for v, _ in meshes]), vertex_start, np.concatenate([f for _, f in meshes]), face_start
    )
    for k, mesh in enumerate(meshes):
        for whole, alone in zip(batch, one(*mesh), strict=True):
            np.testing.assert_array_equal(whole[k], alone)


def test_segment_sum_with_gaps():
    """Empty segments give zero and shift nobody."""
    np.testing.assert_array_equal(segment_sum(np.array([1.0, 2.0, 4.0]), np.array([0, 0, 2, 2, 3])), [0, 3, 0, 4])


def rectangle(width: float, height: float) -> np.ndarray:
    """Corners (4, 3) of a centred rectangle in the xy plane, counter-clockwise seen from +z."""
    return np.array([[-width, -height, 0], [width, -height, 0], [width, height, 0], [-width, height, 0]]) / 2


def test_section_of_a_rectangle():
    """A = bh, I = b h^3 / 12 and h b^3 / 12, W = I / reach = b h^2 / 6, in any attitude; the axis of the larger moment is along b."""
    b, h = 0.3, 0.5
    for turn in (np.eye(3), TURN):
        section = sections_of([[rectangle(b, h) @ turn.T + 7.0]], turn[:, 2][None])
        assert section.area[0] == pytest.approx(b * h, rel=1e-12)
        np.testing.assert_allclose(section.centroid[0], [7.0] * 3, rtol=1e-12)
        np.testing.assert_allclose(section.second_moment[0], [b * h**3 / 12, h * b**3 / 12], rtol=1e-11)
        np.testing.assert_allclose(section.reach[0], [h / 2, b / 2], rtol=1e-11)
        assert abs(section.axis[0] @ turn[:, 0]) == pytest.approx(1.0, abs=1e-12)


def test_section_of_a_triangle():
    """I = b h^3 / 36 about the centroid; the far corner is 2h/3 away. Isosceles, so that the axes are known."""
    b, h = 0.8, 1.5
    corners = np.array([[-b / 2, 0, 0], [b / 2, 0, 0], [0, h, 0]])
    section = sections_of([[corners]], np.array([[0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(section.second_moment[0], [b * h**3 / 36, h * b**3 / 48], rtol=1e-12)
    np.testing.assert_allclose(section.reach[0], [2 * h / 3, b / 2], rtol=1e-12)


def test_section_of_a_square_lies_along_its_sides():
    """Equal moments leave the axes open: rounding must not turn them to the diagonal, where the reach is sqrt(2) larger."""
    for angle in np.linspace(0.1, 3.0, 7):
        turn = matrix(np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)]))
        section = sections_of([[rectangle(0.4, 0.4) @ turn.T]], np.array([[0.0, 0.0, 1.0]]))
        np.testing.assert_allclose(section.reach[0], [0.2, 0.2], rtol=1e-9)


def test_section_of_parts():
    """Two flanges: I = 2 (b t^3 / 12 + b t d^2), Steiner's theorem; several rows at once keep to themselves."""
    b, t, d = 0.6, 0.1, 0.5
    flanges = [rectangle(b, t) + [0, s * d, 0] for s in (-1, 1)]
    section = sections_of([[rectangle(1, 1)], flanges], np.array([[0.0, 0.0, 1.0]] * 2))
    np.testing.assert_allclose(section.area, [1.0, 2 * b * t], rtol=1e-12)
    np.testing.assert_allclose(section.second_moment[1], [2 * (b * t**3 / 12 + b * t * d * d), 2 * t * b**3 / 12], rtol=1e-12)


def polygon_area(points) -> float:
    """Shoelace."""
    if len(points) < 3:
        return 0.0
    x, y = np.array(points).T
    return 0.5 * float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def test_clip_of_polygons():
    """Area of intersection: shifted squares (1-a)(1-b); a square in itself; a corner triangle; apart or edge to edge 0."""
    def square(x, y, s=1.0):
        return [(x, y), (x + s, y), (x + s, y + s), (x, y + s)]

    assert polygon_area(clip_polygon(square(0, 0), square(0.25, 0.4))) == pytest.approx(0.75 * 0.6, rel=1e-15)
    assert polygon_area(clip_polygon(square(0, 0), square(0, 0))) == pytest.approx(1.0, rel=1e-15)
    assert polygon_area(clip_polygon(square(0, 0), [(0.5, 0.5), (3, 0.5), (0.5, 3)])) == pytest.approx(0.25, rel=1e-15)
    assert polygon_area(clip_polygon(square(0, 0), [(1.5, 0), (1.5, 1.5), (0, 1.5)])) == pytest.approx(0.125, rel=1e-15)
    assert polygon_area(clip_polygon(square(0, 0), square(2, 0))) == 0.0
    assert polygon_area(clip_polygon(square(0, 0), square(1, 0))) == 0.0
