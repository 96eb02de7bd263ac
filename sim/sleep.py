# pyright: basic, reportInvalidTypeForm=false
"""Rest: who may sleep, and what wakes a sleeper.

In: bodies, contacts, joints of the step. Out: body states, in place.

Asleep: pose frozen, infinite mass to others, contact rows kept with their forces. A body falls asleep when it and all bodies that
matter to it have been slower than sleep_speed for sleep_time, something carries it, and its speed did not grow during that
time (what tips over slowly gets faster; what rests does not). A neighbour matters if the contact with it bears LOAD_CHANGE of what
the body carries or more: losing less would not wake it again. (Where every touch counted, one restless piece in fourteen kept
half of a heap awake.)
Woken before the solve by a hit: a body that closes in faster than sleep_speed, and from there onwards through touching sleepers as far
as its momentum could set the woken mass moving at sleep_speed: each hands what it does not need on to all that it touches, in equal parts
(undivided, two tonnes at 6 m/s woke a heap of four thousand). Woken after the solve when the force on it differs from
the force it fell asleep under by LOAD_JUMP of what it carries, or by LOAD_CHANGE for a while: a support that gives way, a heap
that grows (awake neighbours press unevenly on what cannot give: waking at once on less keeps a whole heap waking in turn).
Regrouping wakes the changed bodies.
"""

import taichi as ti

from sim.broadphase import driven, moves
from sim.layout import ASLEEP, AWAKE, POINTS

RINGS = 16  # layers of sleepers that one hit can reach in one step
LOAD_CHANGE, LOAD_JUMP = 0.15, 0.3  # of what it carries: if it lasts a quarter of sleep_time, at once
CALM_AGAIN = 0.5  # of sleep_time: what a sleeper counts as calm when a load wakes it, and what is calm for so long keeps nobody awake
BOUND = 1e30  # [N] a joint always matters


@ti.func
def wake(S: ti.template(), b, calm):
    """Let a sleeper move again, from rest, counted calm for so long already."""
    S.body_state[b] = AWAKE
    S.body_calm[b] = calm
    S.body_peak[b] = ti.Vector([0.0, 0.0])


@ti.func
def wake_hit(S: ti.template(), pairs, count, tune: ti.template()):
    """Before the solve: what is being hit wakes, with the sleepers behind it. 1, and nobody woken, if that reaches rows laid aside."""
    for b in range(count):
        S.work_budget[b] = 0.0
        S.work_touching[b] = 0
    woken = 0
    for m in range(pairs):
        if S.contact_count[m] > 0 and S.contact_body[m][1] >= 0:
            a, b = S.contact_body[m][0], S.contact_body[m][1]
            hitter = -1
            sleeper = -1
            if moves(S, a) and S.body_state[b] == ASLEEP:
                hitter = a
                sleeper = b
            if moves(S, b) and S.body_state[a] == ASLEEP:
                hitter = b
                sleeper = a
            if S.body_state[a] == ASLEEP and S.body_state[b] == ASLEEP:
                S.work_touching[a] += 1
                S.work_touching[b] += 1
            if hitter >= 0:
                for k in range(S.contact_count[m]):
                    at = m * POINTS + k
                    velocity = S.contact_approach[at]
                    closing = -S.contact_normal[m].dot(velocity)
                    slide = (velocity + closing * S.contact_normal[m]).norm()
                    near = S.contact_separation[at] < ti.max(closing, 0.0) * tune.h
                    if near and ti.max(closing, slide) > tune.sleep_speed:
                        S.work_budget[sleeper] = ti.max(S.work_budget[sleeper], S.body_mass[hitter] * ti.max(closing, slide))
                        woken = 1
    ring = 0
    while woken == 1 and ring < RINGS:
        woken = 0
        ring += 1
        for m in range(pairs):
            if S.contact_count[m] > 0 and S.contact_body[m][1] >= 0:
                a, b = S.contact_body[m][0], S.contact_body[m][1]
                if S.body_state[a] == ASLEEP and S.body_state[b] == ASLEEP:
                    left_a = (S.work_budget[a] - S.body_mass[a] * tune.sleep_speed) / S.work_touching[a]
                    left_b = (S.work_budget[b] - S.body_mass[b] * tune.sleep_speed) / S.work_touching[b]
                    if left_a > S.body_mass[b] * tune.sleep_speed and left_a > S.work_budget[b]:
                        S.work_budget[b] = left_a
                        woken = 1
                    if left_b > S.body_mass[a] * tune.sleep_speed and left_b > S.work_budget[a]:
                        S.work_budget[a] = left_b
                        woken = 1
    reached = 0
    for b in range(count):
        if S.body_state[b] == ASLEEP and S.work_budget[b] > 0.0 and S.rest_owner[b] > 0:
            reached = 1
    if reached == 0:
        for b in range(count):
            if S.body_state[b] == ASLEEP and S.work_budget[b] > 0.0:
                wake(S, b, 0.0)
    return reached


@ti.func
def calm_count(S: ti.template(), b, tune: ti.template()):
    """Count how long body b has been slow, and whether it is getting faster."""
    speed = S.body_v[b].norm() + S.body_w[b].norm() * S.body_radius[b]
    if speed < tune.sleep_speed:
        peak = S.body_peak[b]
        if S.body_calm[b] < 0.5 * tune.sleep_time:
            peak[0] = ti.max(peak[0], speed)
        else:
            peak[1] = ti.max(peak[1], speed)
        S.body_calm[b] += tune.h
        if S.body_calm[b] >= tune.sleep_time and peak[1] > peak[0] and peak[1] > 0.2 * tune.sleep_speed:
            S.body_calm[b] = 0.0
            peak = ti.Vector([0.0, 0.0])
        S.body_peak[b] = peak
    else:
        S.body_calm[b] = 0.0
        S.body_peak[b] = ti.Vector([0.0, 0.0])


@ti.func
def sleepers_choose(S: ti.template(), pairs, joints, count, tune: ti.template()):
    """After the solve: sleepers whose load changed wake; calm bodies among calm bodies fall asleep. Uses work.load, load_moment."""
    for b in range(count):
        S.work_budget[b] = -1.0  # not carried
        if S.body_state[b] == ASLEEP:
            scale = ti.max(load_scale(S, b, tune), S.body_load_size[b])
            force = (S.work_load[b] - S.body_load[b]).norm()
            moment = (S.work_load_moment[b] - S.body_load_moment[b]).norm()
            change = ti.max(force, moment / S.body_radius[b])
            if change > LOAD_CHANGE * scale:
                S.body_calm[b] -= 4.0 * tune.h
            else:
                S.body_calm[b] = tune.sleep_time
            if change > LOAD_JUMP * scale or S.body_calm[b] < 0.0:
                wake(S, b, CALM_AGAIN * tune.sleep_time)  # stays awake if it gets faster
    for m in range(pairs):
        bears = ti.Vector([0.0, 0.0, 0.0])
        pressed = False
        for k in range(S.contact_count[m]):
            at = m * POINTS + k
            pressed = pressed or S.contact_force_n[at] < 0.0
            bears += S.contact_force_n[at] * S.contact_normal[m] + S.contact_force_t[at]
        if pressed:
            touch(S, S.contact_body[m][0], S.contact_body[m][1], bears.norm(), tune)
    for j in range(joints):
        touch(S, S.row_body[j][0], S.row_body[j][1], BOUND, tune)
    for b in range(count):
        if S.body_state[b] == AWAKE and S.work_budget[b] == 1.0 and S.body_calm[b] >= tune.sleep_time:
            S.body_state[b] = ASLEEP
            S.body_v[b] = ti.Vector([0.0, 0.0, 0.0])
            S.body_w[b] = ti.Vector([0.0, 0.0, 0.0])
            S.body_spin[b] = ti.Vector([0.0, 0.0, 0.0])
            S.body_v_before[b] = ti.Vector([0.0, 0.0, 0.0])
            S.body_load[b] = S.work_load[b]
            S.body_load_moment[b] = S.work_load_moment[b]
            S.body_load_size[b] = S.work_load_size[b]


@ti.func
def touch(S: ti.template(), a, b, bears, tune: ti.template()):
    """Mark both bodies of a contact that bears so much [N] as carried (1), or as kept awake by the other (2)."""
    S.work_budget[a] = ti.max(S.work_budget[a], 1.0 + ti.cast(b >= 0 and keeps_awake(S, ti.max(b, 0), a, bears, tune), ti.f32))
    if b >= 0:
        S.work_budget[b] = ti.max(S.work_budget[b], 1.0 + ti.cast(keeps_awake(S, a, b, bears, tune), ti.f32))


@ti.func
def keeps_awake(S: ti.template(), other, b, bears, tune: ti.template()):
    """Whether `other` is restless and the contact with it matters to body b."""
    restless = driven(S, other) or (S.body_state[other] == AWAKE and S.body_calm[other] < CALM_AGAIN * tune.sleep_time)
    return restless and bears >= LOAD_CHANGE * load_scale(S, b, tune)


@ti.func
def load_scale(S: ti.template(), b, tune: ti.template()):
    """[N] what body b carries: the forces on it, at least its weight."""
    return ti.max(S.body_mass[b] * ti.max(tune.gravity, tune.sleep_speed / tune.sleep_time), S.work_load_size[b])
