# SPDX-License-Identifier: GPL-3.0-or-later
"""What the compiled kernels are made of: small networks, applied to a block of points at a time.

A block's activations stay in the cache, and every inner loop runs along its points, which is what compilers turn into
vector instructions: half to two thirds of a core's peak, without a library's calls and its intermediates in memory.
"""

from __future__ import annotations

import numba
import numpy as np

from engine.scenes.nerfacto.hash_encoding import cell_of

POINTS = 128  # in a block
FOUR = 4  # rows that are worked on together; layers are padded to multiples of it

LOG2_E = np.float32(1.4426950408889634)
HALF, ONE, ZERO = np.float32(0.5), np.float32(1), np.float32(0)
# 2^r for |r| <= 1/2, to a float's precision: Taylor's series.
C1, C2, C3 = np.float32(0.6931471805599453), np.float32(0.2402265069591007), np.float32(0.0555041086648216)
C4, C5, C6 = np.float32(0.009618129107628477), np.float32(0.0013333558146428443), np.float32(0.00015403530393381606)
LEAST, MOST = np.float32(-87), np.float32(88)  # whose exponentials are floats


@numba.njit(fastmath=True)
def exponential(values, bits):
    """exp of ``values`` (N) in place, in vector instructions; ``bits`` (N) int32 is scratch."""
    powers = bits.view(np.float32)
    for p in range(len(values)):
        v = min(max(values[p], LEAST), MOST) * LOG2_E
        whole = np.floor(v + HALF)
        r = v - whole
        values[p] = ONE + r * (C1 + r * (C2 + r * (C3 + r * (C4 + r * (C5 + r * C6)))))
        bits[p] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    for p in range(len(values)):
        values[p] *= powers[p]


@numba.njit(fastmath=True)
def dense(weights, bias, inputs, outputs, rectify):
    """outputs (J, P) = weights (J, K) · inputs (K, P) + bias (J); J and K are multiples of four."""
    rows, columns = weights.shape
    count = outputs.shape[1]
    for j in range(0, rows, FOUR):
        y0, y1, y2, y3 = outputs[j], outputs[j + 1], outputs[j + 2], outputs[j + 3]
        b0, b1, b2, b3 = bias[j], bias[j + 1], bias[j + 2], bias[j + 3]
        for p in range(count):
            y0[p], y1[p], y2[p], y3[p] = b0, b1, b2, b3
        for k in range(0, columns, FOUR):
            x0, x1, x2, x3 = inputs[k], inputs[k + 1], inputs[k + 2], inputs[k + 3]
            w00, w01, w02, w03 = weights[j, k], weights[j, k + 1], weights[j, k + 2], weights[j, k + 3]
            w10, w11, w12, w13 = weights[j + 1, k], weights[j + 1, k + 1], weights[j + 1, k + 2], weights[j + 1, k + 3]
            w20, w21, w22, w23 = weights[j + 2, k], weights[j + 2, k + 1], weights[j + 2, k + 2], weights[j + 2, k + 3]
            w30, w31, w32, w33 = weights[j + 3, k], weights[j + 3, k + 1], weights[j + 3, k + 2], weights[j + 3, k + 3]
            for p in range(count):
                v0, v1, v2, v3 = x0[p], x1[p], x2[p], x3[p]
                y0[p] += w00 * v0 + w01 * v1 + w02 * v2 + w03 * v3
                y1[p] += w10 * v0 + w11 * v1 + w12 * v2 + w13 * v3
                y2[p] += w20 * v0 + w21 * v1 + w22 * v2 + w23 * v3
                y3[p] += w30 * v0 + w31 * v1 + w32 * v2 + w33 * v3
        if rectify:
            for p in range(count):
                y0[p], y1[p] = max(y0[p], ZERO), max(y1[p], ZERO)
                y2[p], y3[p] = max(y2[p], ZERO), max(y3[p], ZERO)


@numba.njit(fastmath=True)
def contracted(x, y, z):
    """A point of the NeRF frame in the unit cube, by the contraction of all space (order ∞)."""
    size = max(abs(x), abs(y), abs(z))
    if size > ONE:
        scale = (np.float32(2) - ONE / size) / size
        x, y, z = x * scale, y * scale, z * scale
    quarter = np.float32(0.25)
    return x * quarter + HALF, y * quarter + HALF, z * quarter + HALF


@numba.njit(fastmath=True)
def encode_block(points, count, table, scalings, encoded):
    """Hash encoding of the first ``count`` of ``points`` (P, 3) into ``encoded`` (L · F and padding, P)."""
    levels, size, features = table.shape
    mask = np.uint32(size - 1)
    for level in range(levels):
        rows_of = table[level]
        scale = scalings[level]
        for n in range(count):
            ox, oy, oz, row = cell_of(points, n, scale, mask)
            px, py, pz = ONE - ox, ONE - oy, ONE - oz
            w0, w1, w2, w3 = px * py * pz, ox * py * pz, px * oy * pz, ox * oy * pz
            w4, w5, w6, w7 = px * py * oz, ox * py * oz, px * oy * oz, ox * oy * oz
            for f in range(features):
                encoded[level * features + f, n] = (
                    rows_of[row[0], f] * w0
                    + rows_of[row[1], f] * w1
                    + rows_of[row[2], f] * w2
                    + rows_of[row[3], f] * w3
                    + rows_of[row[4], f] * w4
                    + rows_of[row[5], f] * w5
                    + rows_of[row[6], f] * w6
                    + rows_of[row[7], f] * w7
                )


@numba.njit(fastmath=True)
def outer(left, right, count, sums):
    """sums (J, K) += left (J, P) · right (K, P)ᵀ over the first ``count`` points: a layer's gradient. J and K are
    multiples of four."""
    rows, columns = sums.shape
    for j in range(0, rows, FOUR):
        a0, a1, a2, a3 = left[j], left[j + 1], left[j + 2], left[j + 3]
        for k in range(0, columns, FOUR):
            x0, x1, x2, x3 = right[k], right[k + 1], right[k + 2], right[k + 3]
            s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = ZERO
            s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = ZERO
            for p in range(count):
                g0, g1, g2, g3 = a0[p], a1[p], a2[p], a3[p]
                v0, v1, v2, v3 = x0[p], x1[p], x2[p], x3[p]
                s00 += g0 * v0
                s01 += g0 * v1
                s02 += g0 * v2
                s03 += g0 * v3
                s10 += g1 * v0
                s11 += g1 * v1
                s12 += g1 * v2
                s13 += g1 * v3
                s20 += g2 * v0
                s21 += g2 * v1
                s22 += g2 * v2
                s23 += g2 * v3
                s30 += g3 * v0
                s31 += g3 * v1
                s32 += g3 * v2
                s33 += g3 * v3
            y0, y1, y2, y3 = sums[j], sums[j + 1], sums[j + 2], sums[j + 3]
            y0[k] += s00
            y0[k + 1] += s01
            y0[k + 2] += s02
            y0[k + 3] += s03
            y1[k] += s10
            y1[k + 1] += s11
            y1[k + 2] += s12
            y1[k + 3] += s13
            y2[k] += s20
            y2[k + 1] += s21
            y2[k + 2] += s22
            y2[k + 3] += s23
            y3[k] += s30
            y3[k + 1] += s31
            y3[k + 2] += s32
            y3[k + 3] += s33


@numba.njit(fastmath=True)
def through_rectifier(gradient, outputs, count, bias_sums):
    """``gradient`` (J, P) of what a rectified layer put out, ``outputs``, to that of what it rectified, in place, with
    zeros beyond the first ``count`` points; adds up the bias's gradient in ``bias_sums`` (J)."""
    for j in range(gradient.shape[0]):
        g, y = gradient[j], outputs[j]
        total = ZERO
        for p in range(count):
            value = g[p] if y[p] > ZERO else ZERO
            g[p] = value
            total += value
        bias_sums[j] += total
        for p in range(count, len(g)):
            g[p] = ZERO
