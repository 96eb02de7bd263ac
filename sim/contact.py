# pyright: basic, reportInvalidTypeForm=false
"""The rows of a contact point: augmented vertex block descent (AVBD) with force-scaled penalty growth.

Reference: Giles, Diaz, Yuksel, "Augmented Vertex Block Descent", SIGGRAPH 2025, after Chen et al., "Vertex Block Descent", 2024.

    d        relative displacement of the point on b against that on a since the start of the step, arms frozen there
             d = dx_b + dth_b x r_b - dx_a - dth_a x r_a
    C_n      = c + n . d         c = separation if positive, else (1 - alpha) separation: a fixed share of an overlap per step
    C_t      = (1 - alpha) slip + (d - n n . d)
    F_n      = clamp(k_n C_n + lambda_n, -Y, 0)                 force on b is -F_n n - F_t, on a the opposite
    Y        what the point bears at most (sim/crush.py)
    F_t      = (k_t C_t + lambda_t) s,  s = min(1, mu |F_n| / |k_t C_t + lambda_t|)
    mu       that of sliding, or `stiction` times it where a point of the row did not use it up in the last step, or where it hardly slips
    crush    where F_n = -Y at the end of a step, what is left of the overlap is crushed for good: no force brings it back
    dual     lambda = F;  k_n += beta (1 + |F_n| / F0) |C_n| while pressed;  k_t likewise while s = 1

Without Y a rigid building that lands stops dead in one step, with a force as 1/h, and how much of it stops follows the number of sweeps:
20 or 80 of them left 15 or 7 of 31 MJ in motion in the first crash of a ten-storey block. With Y both leave 30.

Deviations: beta grows with the force carried (constant beta sinks under a 10 000-fold load); lambda decays by 0.9 per step
apart from k's 0.99 (without it walls simmer); both tangents share one penalty, so no tangent basis exists that could turn;
a penalty grows only while its error does not shrink by itself, and a point that closes in starts at the reduced mass over h^2: with stiffer
rows two free bodies in collision freeze against each other and lose momentum (7 % in ten sweeps, against 0.1 %);
a clamped row keeps the stiffness of its secant (n: -lambda/C or Y/C, t: s k_t), which stays positive and lets sliders slide.
The sums over rows are in sim/quad.py, four points at a time.
"""

import taichi as ti

STALL = 0.9  # an error that falls below this share in a sweep needs no stiffer row


@ti.func
def stiffness_free(c_n, lambda_n, k_n, penalty_min):
    """Normal stiffness of points that do not press: of the secant to where they would."""
    return ti.min(ti.max(-lambda_n / ti.max(c_n, 1e-12), ti.min(penalty_min, k_n)), k_n)
