"""The one size law of everything a break sheds: pieces, grit and airborne dust.

In: radii [m] of equal-volume spheres, the fractal dimension D. Out: counts, masses, surfaces and radii of the truncated
power law N(> r) = C r^-D between a smallest and a largest radius (Turcotte 1986), so n(r) dr = C D r^(-D-1) dr.
Energy pays for surface (Rittinger): a crack of area A costs G_f A = 2 gamma A. A piece is chipped off a parent, whose side of
the crack is not the piece's, so the surface of the pieces counts as crack area once: A_new = eta E / (2 gamma).
With the specific surface S/V = 3 (3-D)/(D-2) (r0^(2-D) - r1^(2-D)) / (r1^(3-D) - r0^(3-D)) their volume is A_new / (S/V).
All functions broadcast over arrays and stay finite at D = 2. Does not sample counts: that is `neural/shed.py`.
"""

from __future__ import annotations

import numpy as np

SPHERE = 4.0 / 3.0 * np.pi


def count_between(lower, upper, fractal):
    """Number of pieces with lower < r < upper per unit C."""
    return fractal * _power_integral(-fractal, lower, upper)


def volume_between(lower, upper, fractal):
    """Their volume [m3] per unit C."""
    return SPHERE * fractal * _power_integral(3.0 - fractal, lower, upper)


def surface_between(lower, upper, fractal):
    """Their surface [m2] per unit C."""
    return 4.0 * np.pi * fractal * _power_integral(2.0 - fractal, lower, upper)


def specific_surface(lower, upper, fractal):
    """Surface per volume [1/m] of all pieces between two radii."""
    return surface_between(lower, upper, fractal) / volume_between(lower, upper, fractal)


def volume_share(lower, upper, smallest, largest, fractal):
    """Share of the volume of the law on (smallest, largest) that lies in (lower, upper); limits outside are clipped."""
    low, high = np.clip(lower, smallest, largest), np.clip(upper, smallest, largest)
    return _power_integral(3.0 - fractal, low, high) / _power_integral(3.0 - fractal, smallest, largest)


def radius_quantile(u, lower, upper, fractal):
    """Radius [m] below which a share u of the pieces between two radii lies: the inverse of the distribution function."""
    ratio = np.asarray(lower) / upper
    return lower * (1.0 - u * (1.0 - ratio**fractal)) ** (-1.0 / np.asarray(fractal))


def radius_mass_quantile(u, lower, upper, fractal):
    """Radius [m] below which a share u of the mass between two radii lies."""
    power, ratio = 3.0 - np.asarray(fractal), np.asarray(lower) / upper
    return upper * (ratio**power + u * (1.0 - ratio**power)) ** (1.0 / power)


def largest_radius(area, smallest, grain, fractal):
    """Largest radius [m] that a new area [m2] affords: one piece is never more than all that was shed, nor coarser than the grain.

    Solves V(r) = area / (S/V)(smallest, r) = 4/3 pi r^3 by bisection in log r (60 halvings: to the last bit that matters).
    Where the area does not cover one piece of the smallest size the answer is the smallest radius: nothing is shed."""
    area = np.asarray(area, float)
    low = np.broadcast_to(np.log(np.asarray(smallest, float)), area.shape).copy()
    high = np.broadcast_to(np.log(np.asarray(grain, float)), area.shape).copy()
    first, last = low.copy(), high.copy()
    for _ in range(60):
        middle = 0.5 * (low + high)
        fits = area >= SPHERE * np.exp(3.0 * middle) * specific_surface(smallest, np.exp(middle), fractal)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.where(high == last, np.exp(last), np.where(low == first, np.exp(first), np.exp(low)))


def _power_integral(power, lower, upper):
    """Integral of r^(power - 1) from lower to upper, exact through power = 0 where it is log(upper / lower)."""
    power, ratio = np.asarray(power, float), np.log(np.asarray(upper, float) / lower)
    x = power * ratio
    small = np.abs(x) < 1e-8
    safe = np.where(small, 1.0, power)
    return lower**power * np.where(small, ratio * (1.0 + 0.5 * x), np.expm1(x) / safe)
