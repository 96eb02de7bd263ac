# pyright: basic, reportInvalidTypeForm=false
"""What a contact point bears while it crushes what lies between.

In: the strength of the fragment that yields, how far it was crushed before, how far apart the two are when the step begins, and by how much
they overlap when it ends. Out: the mean force in the step, so that crushing takes the same energy in one long step as in many short ones.

    F      compressive strength x weakest section of the fragment; four points make a face
    w      [m] how far the fragment was crushed at the start of the step, at all its contacts together
    c      [m] how far this pair was
    e      share of the step that is left when the gap between the two is closed, at the speed they have when it begins
    x      [m] overlap of this step that no force has taken back: what is being crushed
    d, r   depth over which strength goes, and the share that is left
    p      depth at which the voids are gone
    s(w) = max(1 - w / d, r)                strength left
    v(c) = max(min(2 - 2 c / p, 1), r / k)  voids: what was crushed is still there, it packs, to bear k times as much as at first
    Y(x) = e F / 4x  int_0^x s(w + t) / v(c + t) dt, at least min(r, 1/20) F / 4

The strength at the start of the step alone let a fragment at 10 m/s and 1/72 s bear in full over 14 cm what 1/576 s took from it after one:
a tumbling cube was braked by its corners in long steps and hit hard in short ones. A force acts over the whole step: without e, what flew
through a gap of 6 mm and crushed 4 lost 2.5 times the energy of that, and a frame that lands from 0.7 m broke at 1/288 s, not at 1/576 s.
(The mean over gap and x together, x / (g + x) in place of e, says the same, but is so steep in x that two free bodies freeze against each
other in the sweeps and lose momentum, 0.9 %.)
Where c + x passes p / 2 before the strength is gone
(another fragment was crushed there) the product of the two means stands for the mean of the product.
"""

import taichi as ti

CONFINED = 13.0  # k: what cannot get out; of 30 MPa a blunt nose meets 82.6 f_c^-0.544 (MPa) times f_c (Forrestal et al. 1994)
RESIDUAL_MIN = 1e-3  # a residual below that never bears again, however far it packs
GRAZE = 0.05  # of the strength: what presses less crushes nothing
ROUNDING = 1e-4  # Y is computed again, in another kernel


@ti.func
def crush_least(tune: ti.template()):
    """Y over F / 4 at least."""
    return ti.min(tune.crush_residual, GRAZE)


@ti.func
def softened(w, x, tune: ti.template()):
    """[m] int_0^x s(w + t) dt."""
    soft = ti.min(ti.max(tune.crush_depth * (1.0 - tune.crush_residual) - w, 0.0), x)
    return soft * (1.0 - (w + 0.5 * soft) / tune.crush_depth) + (x - soft) * tune.crush_residual


@ti.func
def voids_least(tune: ti.template()):
    """r / k."""
    return ti.max(tune.crush_residual, RESIDUAL_MIN) / CONFINED


@ti.func
def packed(c, x, tune: ti.template()):
    """[m] int_0^x dt / v(c + t) for c >= p / 2."""
    p, least = tune.crush_packed, voids_least(tune)
    end = p * (1.0 - 0.5 * least)
    return 0.5 * p * ti.log((p - ti.min(c, end)) / (p - ti.min(c + x, end))) + (ti.max(c + x, end) - ti.max(c, end)) / least


@ti.func
def strength_left(w, c, tune: ti.template()):
    """s(w) / v(c)."""
    s = ti.max(1.0 - w / tune.crush_depth, tune.crush_residual)
    return s / ti.max(ti.min(2.0 - 2.0 * c / tune.crush_packed, 1.0), voids_least(tune))


@ti.func
def crush_share(separation, opening, tune: ti.template()):
    """e of a point that is this far apart and opens at this speed [m/s] when the step begins."""
    share = ti.f32(1.0)
    if separation > 0.0:
        share = 1.0 - separation / ti.max(-tune.h * opening, separation)
    return share


@ti.func
def crush_bears(f_n, c_n, share, law, c, tune: ti.template()):
    """[N] Y and [N/m] how fast it grows with x at a point that would bear -f_n at error c_n; no bound below all that Y can be.

    share: e; law: F / 4 and w of the pair, c how far it was crushed."""
    y, grows = ti.f32(1e30), ti.f32(0.0)
    F, w = law[0], law[1]
    if -f_n >= (1.0 - ROUNDING) * crush_least(tune) * F:
        x = ti.max(-c_n, 0.0)
        mean = strength_left(w, c, tune)
        if x > 1e-4 * tune.crush_depth:
            loose = ti.min(ti.max(0.5 * tune.crush_packed - c, 0.0), x)
            taken = softened(w, loose, tune)
            if loose < x:
                taken += softened(w + loose, x - loose, tune) / (x - loose) * packed(c + loose, x - loose, tune)
            mean = taken / x
            grows = share * F * ti.max(strength_left(w + x, c + x, tune) - mean, 0.0) / x
        y = F * ti.max(share * mean, crush_least(tune))
    return y, grows


@ti.func
def crush_yields(f_n, c_n, share, law, c, tune: ti.template()):
    """Whether a point that bears -f_n at error c_n crushes."""
    y, _ = crush_bears(f_n, c_n, share, law, c, tune)
    return -f_n >= (1.0 - ROUNDING) * y
