# pyright: basic, reportInvalidTypeForm=false, reportGeneralTypeIssues=false, reportIndexIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportCallIssue=false
"""One frame of all small pieces: fly, hit, slide, rest, ride, be pushed out or ground up.

In: poses of the fragments at both ends of the frame, planes of their hulls, a grid of candidates, the state of the pieces.
Out: the state at the end of the frame. One thread computes one piece from the start to the end of the frame.

Symbols: s in [0, 1] share of the frame; h [s] sub-step; p, v, q, w position, velocity, rotation, spin of a piece; r its radius;
n contact normal; u velocity of the surface. A sub-step is v <- (v + g h) / (1 + h (a + b |v|)), p <- p + v h (symplectic Euler,
implicit drag), its path clipped against the planes of every hull grown by r, in the hull's own moving frame (Cyrus, Beck 1978),
so that nothing tunnels at any speed. At a hit: normal speed -e times, tangential speed less friction (1 + e) v_n (Coulomb);
slower hits than what gravity adds in two sub-steps do not bounce. Up to four hits a path.
A piece found inside (born there, or squeezed) leaves by the nearest face that does not lie below ground. If that takes more than two
diameters, it was between hammer and anvil: it is ground up and no longer alive. The newborn may come from any depth.
"""

import taichi as ti

UNBORN, MOVING, ASLEEP, GROUND_UP = 0, 1, 2, 3
SKIN = 1e-4  # [m] a touching piece is left this far off: above the rounding of f32 coordinates 300 m out (3e-5)
HITS, PUSHES = 4, 8
FAST = 2  # pace of a fragment: 0 did not move in the frame, 1 slower than sleep_speed, 2 faster

_f3, _f4, _f2 = ti.types.vector(3, ti.f32), ti.types.vector(4, ti.f32), ti.types.vector(2, ti.f32)
_reals, _ints = ti.types.ndarray(dtype=ti.f32, ndim=1), ti.types.ndarray(dtype=ti.i32, ndim=1)
_vectors, _fours = ti.types.ndarray(dtype=_f3, ndim=1), ti.types.ndarray(dtype=_f4, ndim=1)


@ti.kernel
def grid_fill(box: ti.types.ndarray(dtype=ti.i32, ndim=2), nx: ti.i32, ny: ti.i32, nz: ti.i32, start: _ints, item: _ints):
    """Counting sort of fragments into the cells of their boxes (F, 6: lower, upper): `item[start[c]:start[c + 1]]` ascending."""
    ti.loop_config(serialize=True)
    for _ in range(1):
        cells = nx * ny * nz
        for f in range(box.shape[0]):
            for x, y, z in ti.ndrange((box[f, 0], box[f, 3] + 1), (box[f, 1], box[f, 4] + 1), (box[f, 2], box[f, 5] + 1)):
                start[(x * ny + y) * nz + z] += 1
        total = 0
        for c in range(cells):
            total += start[c]
            start[c] = total
        start[cells] = total
        for g in range(box.shape[0]):
            f = box.shape[0] - 1 - g
            for x, y, z in ti.ndrange((box[f, 0], box[f, 3] + 1), (box[f, 1], box[f, 4] + 1), (box[f, 2], box[f, 5] + 1)):
                c = (x * ny + y) * nz + z
                start[c] -= 1
                item[start[c]] = f


@ti.func
def turned(q, v):
    t = 2.0 * _f3(q[1], q[2], q[3]).cross(v)
    return v + q[0] * t + _f3(q[1], q[2], q[3]).cross(t)


@ti.func
def inverse(q):
    return _f4(q[0], -q[1], -q[2], -q[3])


@ti.func
def product(a, b):
    u, w = _f3(a[1], a[2], a[3]), _f3(b[1], b[2], b[3])
    c = a[0] * w + b[0] * u + u.cross(w)
    return _f4(a[0] * b[0] - u.dot(w), c[0], c[1], c[2])


@ti.func
def mixed(a, b, s):
    return a + s * (b - a)


@ti.func
def after_contact(v, u, n, bounce, friction, slow):
    """Velocity behind a hit on a surface that moves with u; `slow` is the approach below which nothing bounces."""
    approach = (v - u).dot(n)
    out = v
    if approach < 0.0:
        e = bounce if -approach > slow else 0.0
        along = v - u - approach * n
        speed = along.norm()
        keep = ti.max(0.0, 1.0 - friction * (1.0 + e) * -approach / ti.max(speed, 1e-12))
        out = u + keep * along - e * approach * n
    return out


@ti.kernel
def scatter_frame(
    # constants
    steps: ti.i32, frame_time: ti.f32, gravity: ti.f32, bounce: ti.f32, friction: ti.f32, sleep_speed: ti.f32, sleep_time: ti.f32,
    # grid
    lower_x: ti.f32, lower_y: ti.f32, lower_z: ti.f32, cell: ti.f32, nx: ti.i32, ny: ti.i32, nz: ti.i32, start: _ints, item: _ints,
    # fragments
    x0: _vectors, x1: _vectors, q0: _fours, q1: _fours, pace: _ints, bound: _reals, hull_start: _ints, plane_start: _ints, plane: _fours,
    # pieces
    radius: _reals, drag: ti.types.ndarray(dtype=_f2, ndim=1), birth: _reals,
    # state, in and out
    position: _vectors, rotation: _fours, velocity: _vectors, spin: _vectors, phase: _ints, calm: _reals, support: _ints,
    held_position: _vectors, held_rotation: _fours,
):  # fmt: skip
    """Every piece over one frame. `birth` is the share of the frame at which a piece starts; unborn ones wait while it is above 1."""
    lower, up = _f3(lower_x, lower_y, lower_z), _f3(0.0, 1.0, 0.0)
    for i in range(position.shape[0]):
        state, newborn, first = phase[i], False, 0.0
        if state == UNBORN and birth[i] <= 1.0:
            state, newborn, first = MOVING, True, ti.max(birth[i], 0.0)
        p, v, q, w, r = position[i], velocity[i], rotation[i], spin[i], radius[i]
        still, rest_on = calm[i], support[i]
        for k in range(steps + 1):
            s0, s1 = ti.max(ti.cast(k, ti.f32) / steps, first), ti.cast(ti.min(k + 1, steps), ti.f32) / steps
            if (s1 > s0 or k == steps) and state != UNBORN and state != GROUND_UP:
                # asleep: ride on the support; wake when it runs off or something else arrives
                if state == ASLEEP:
                    f = rest_on
                    if f >= 0:
                        turn = mixed(q0[f], q1[f], s0).normalized()
                        p = mixed(x0[f], x1[f], s0) + turned(turn, held_position[i])
                        q = product(turn, held_rotation[i])
                        if pace[f] == FAST:
                            later = mixed(x0[f], x1[f], s0 + 0.5 / steps)
                            later += turned(mixed(q0[f], q1[f], s0 + 0.5 / steps).normalized(), held_position[i])
                            state, v, still = MOVING, (later - p) / (0.5 / steps * frame_time), 0.0
                    if state == ASLEEP:
                        at = ti.cast(ti.floor((p - lower) / cell), ti.i32)
                        if 0 <= at[0] < nx and 0 <= at[1] < ny and 0 <= at[2] < nz:
                            c = (at[0] * ny + at[1]) * nz + at[2]
                            for j in range(start[c], start[c + 1]):
                                g = item[j]
                                if pace[g] > 0 and g != f:
                                    arm = p - mixed(x0[g], x1[g], s0)
                                    if arm.norm_sqr() < (bound[g] + r) ** 2:
                                        a = turned(inverse(mixed(q0[g], q1[g], s0).normalized()), arm)
                                        for hull in range(hull_start[g], hull_start[g + 1]):
                                            top = -1e9
                                            for m in range(plane_start[hull], plane_start[hull + 1]):
                                                b = plane[m]
                                                top = ti.max(top, b[0] * a[0] + b[1] * a[1] + b[2] * a[2] - b[3] - r)
                                            if top < -SKIN:
                                                state, v, still = MOVING, _f3(0.0), 0.0

                if state == MOVING:
                    # out of whatever it is inside at s0
                    pushed, clear, caught = 0.0, False, False
                    for _ in range(PUSHES):
                        if not clear and not caught:
                            deepest, n, u = 0.0, up, _f3(0.0)
                            if p[1] < r - 1e-6:
                                deepest = r - p[1]
                            at = ti.cast(ti.floor((p - lower) / cell), ti.i32)
                            if 0 <= at[0] < nx and 0 <= at[1] < ny and 0 <= at[2] < nz:
                                c = (at[0] * ny + at[1]) * nz + at[2]
                                for j in range(start[c], start[c + 1]):
                                    g = item[j]
                                    arm = p - mixed(x0[g], x1[g], s0)
                                    if arm.norm_sqr() < (bound[g] + r) ** 2:
                                        turn = mixed(q0[g], q1[g], s0).normalized()
                                        a = turned(inverse(turn), arm)
                                        for hull in range(hull_start[g], hull_start[g + 1]):
                                            top, way_out, way = -1e9, 1e9, up
                                            for m in range(plane_start[hull], plane_start[hull + 1]):
                                                b = plane[m]
                                                d = b[0] * a[0] + b[1] * a[1] + b[2] * a[2] - b[3] - r
                                                top = ti.max(top, d)
                                                if d < 0.0 and -d < way_out:
                                                    world = turned(turn, _f3(b[0], b[1], b[2]))
                                                    if p[1] - d * world[1] >= r - SKIN:
                                                        way_out, way = -d, world
                                            if top < -1e-6 and way_out > 1e8:
                                                caught = True
                                            elif top < -1e-6 and way_out > deepest:
                                                deepest, n = way_out, way
                                                s2 = s0 + (0.5 / steps if s0 < 0.5 else -0.5 / steps)
                                                there = mixed(x0[g], x1[g], s2) + turned(mixed(q0[g], q1[g], s2).normalized(), a)
                                                u = (there - p) / ((s2 - s0) * frame_time)
                            if deepest > 0.0:
                                p += n * (deepest + SKIN)
                                pushed += deepest
                                v = after_contact(v, u, n, 0.0, friction, 0.0)
                            else:
                                clear = True
                    if caught or not clear or (pushed > 4.0 * r and not newborn):
                        state = GROUND_UP
                    newborn = False

                if state == MOVING and k < steps:
                    h = (s1 - s0) * frame_time
                    v[1] -= gravity * h
                    v /= 1.0 + h * (drag[i][0] + drag[i][1] * v.norm())
                    cuts = ti.max(1, ti.cast(ti.ceil(v.norm() * h / (0.5 * cell)), ti.i32))
                    touched, carrier, surface = False, -1, _f3(0.0)
                    for cut in range(cuts):
                        sa, sb = mixed(s0, s1, ti.cast(cut, ti.f32) / cuts), mixed(s0, s1, ti.cast(cut + 1, ti.f32) / cuts)
                        for _ in range(HITS):
                            if sb > sa:
                                path = v * ((sb - sa) * frame_time)
                                path *= ti.min(1.0, 0.5 * cell / ti.max(path.norm(), 1e-12))
                                best, n, u, carried = 1.0, up, _f3(0.0), -2
                                if p[1] - r >= 0.0 and p[1] - r + path[1] < 0.0:
                                    best, carried = (p[1] - r) / -path[1], -1
                                at = ti.cast(ti.floor((p + 0.5 * path - lower) / cell), ti.i32)
                                if 0 <= at[0] < nx and 0 <= at[1] < ny and 0 <= at[2] < nz:
                                    c = (at[0] * ny + at[1]) * nz + at[2]
                                    for j in range(start[c], start[c + 1]):
                                        g = item[j]
                                        xa, xb = mixed(x0[g], x1[g], sa), mixed(x0[g], x1[g], sb)
                                        if (p - xa).norm() < bound[g] + r + (path - (xb - xa)).norm():
                                            qa, qb = mixed(q0[g], q1[g], sa).normalized(), mixed(q0[g], q1[g], sb).normalized()
                                            a, b = turned(inverse(qa), p - xa), turned(inverse(qb), p + path - xb)
                                            for hull in range(hull_start[g], hull_start[g + 1]):
                                                enter, leave, face = -1.0, 1.0, -1
                                                for m in range(plane_start[hull], plane_start[hull + 1]):
                                                    l = plane[m]
                                                    da = l[0] * a[0] + l[1] * a[1] + l[2] * a[2] - l[3] - r
                                                    db = l[0] * b[0] + l[1] * b[1] + l[2] * b[2] - l[3] - r
                                                    if da >= 0.0 and db >= 0.0:
                                                        leave = -2.0
                                                    elif da >= 0.0:
                                                        if da / (da - db) > enter:
                                                            enter, face = da / (da - db), m
                                                    elif db >= 0.0:
                                                        leave = ti.min(leave, da / (da - db))
                                                if face >= 0 and enter <= leave and enter < best:
                                                    best, carried = enter, g
                                                    l = plane[face]
                                                    n = turned(mixed(qa, qb, enter).normalized(), _f3(l[0], l[1], l[2]))
                                                    spot = a + enter * (b - a)
                                                    u = (xb + turned(qb, spot) - xa - turned(qa, spot)) / ((sb - sa) * frame_time)
                                p += best * path
                                sa += best * (sb - sa)
                                if carried == -2:
                                    sa = sb
                                else:
                                    p += SKIN * n
                                    v = after_contact(v, u, n, bounce, friction, 2.0 * gravity * frame_time / steps)
                                    w = n.cross(v - u) / r
                                    touched, carrier, surface = True, carried, u
                    angle = w.norm() * h
                    if angle > 0.0:
                        axis = w / w.norm() * ti.sin(0.5 * angle)
                        q = product(_f4(ti.cos(0.5 * angle), axis[0], axis[1], axis[2]), q).normalized()
                    still = still + h if touched and (v - surface).norm() < sleep_speed else 0.0
                    if still >= sleep_time and (carrier < 0 or pace[ti.max(carrier, 0)] < FAST):
                        state, rest_on, v, w = ASLEEP, carrier, _f3(0.0), _f3(0.0)
                        if carrier >= 0:
                            turn = mixed(q0[carrier], q1[carrier], s1).normalized()
                            held_position[i] = turned(inverse(turn), p - mixed(x0[carrier], x1[carrier], s1))
                            held_rotation[i] = product(inverse(turn), q)
        position[i], velocity[i], rotation[i], spin[i], phase[i] = p, v, q, w, state
        calm[i], support[i] = still, rest_on
