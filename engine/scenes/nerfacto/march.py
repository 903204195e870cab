# SPDX-License-Identifier: GPL-3.0-or-later
"""Rays through a nerfacto on a CPU, compiled: the quadrature of `Nerfacto.forward`, with what makes no difference left
out.

The first proposal is looked up in the grid of what is occupied. Rays that meet nothing are not followed, and those that
have become opaque are followed no further. Density is asked of every sample that is left, color of a few along a ray:
samples that lie next to each other and weigh little together share one, of the mean of their features.
"""

from __future__ import annotations

from functools import partial

import numba
import numpy as np

from engine.scenes.nerfacto.blocks import POINTS, contracted, dense, encode_block, exponential

RAYS = 64  # worked on together
WORKERS = 32  # shares of the rays, each with its own scratch memory
WAVE = 6  # samples of a ray that are asked before it is seen whether it has become opaque
PADDING = np.float32(0.01)  # of a histogram that is sampled from, as in nerfstudio's PDFSampler
HALF, ONE, ZERO = np.float32(0.5), np.float32(1), np.float32(0)
TINY = np.float32(1e-5)
OPAQUE = np.float32(2e-3)  # of light that still comes through, below which a ray is followed no further
EMPTY = np.float32(2e-3)  # of light that is stopped, below which a ray has met nothing
FAINT = np.float32(1e-3)  # weight below which no color is asked
THIN = np.float32(1e-3)  # optical depth that is none

# A checkpoint of somebody's may hold any numbers: dividing by zero is no error here, and no number an index.
kernel = partial(numba.njit, fastmath=True, error_model="numpy")


@kernel()
def _distance(s, far):
    """Where ``s`` (0–1) of the way to the end lies: evenly as far as 1, then evenly in disparity."""
    x = s * far
    return x + x if x < HALF else ONE / (np.float32(2) - (x + x))


@kernel()
def _nearest(grid, points, n):
    """The value of ``grid`` (G, G, G) in the cell of the unit cube that point ``n`` lies in."""
    size = grid.shape[0]
    scale = np.float32(size)
    i, j, k = np.int32(points[n, 0] * scale), np.int32(points[n, 1] * scale), np.int32(points[n, 2] * scale)
    return grid[min(max(i, 0), size - 1), min(max(j, 0), size - 1), min(max(k, 0), size - 1)]


@kernel()
def _weigh(passed, count, anneal, weights):
    """The weights of samples of which ``passed`` (S) says what light each lets through; how much is stopped in all."""
    light = ONE
    for s in range(count):
        weights[s] = light * (ONE - passed[s])
        light *= passed[s]
    if anneal != ONE:
        for s in range(count):
            weights[s] = weights[s] ** anneal
    return ONE - light


@kernel()
def _resample(edges, weights, count, drawn, wanted):
    """``wanted`` + 1 edges into ``drawn``, evenly over the histogram of ``weights`` between ``edges``."""
    total = ZERO
    for s in range(count):
        total += weights[s] + PADDING
    places = np.float32(wanted + 1)
    bin_ = 0
    below, share = ZERO, (weights[0] + PADDING) / total
    for n in range(wanted + 1):
        u = (np.float32(n) + HALF) / places
        while below + share <= u and bin_ < count - 1:
            below += share
            bin_ += 1
            share = (weights[bin_] + PADDING) / total
        inside = min(max((u - below) / share, ZERO), ONE)
        drawn[n] = edges[bin_] + inside * (edges[bin_ + 1] - edges[bin_])


@kernel()
def _densities(points, inside, count, network, scratch, bits, out):
    """A proposal's density at the first ``count`` of ``points`` (P, 3), in unit cubes."""
    table, scalings, first, first_bias, last, last_bias, unit = network
    encoded, hidden, result = scratch
    encode_block(points, count, table, scalings, encoded)
    dense(first, first_bias, encoded, hidden, True)
    dense(last, last_bias, hidden, result, False)
    density = result[0]
    exponential(density, bits)
    for n in range(count):
        out[n] = density[n] * unit * inside[n]


@kernel()
def _network_scratch(network):
    """Activations of a block in a network of two layers."""
    first, last = network[2], network[4]
    return (
        np.zeros((first.shape[1], POINTS), np.float32),
        np.zeros((last.shape[1], POINTS), np.float32),
        np.zeros((last.shape[0], POINTS), np.float32),
    )


@kernel(parallel=True, cache=True, nogil=True)
def fill_grid(network, grid):
    """A proposal's density at the centres of the cells of ``grid`` (G, G, G)."""
    size = grid.shape[0]
    step = ONE / np.float32(size)
    for i in numba.prange(size):
        points, inside = np.empty((POINTS, 3), np.float32), np.ones(POINTS, np.float32)
        bits, scratch = np.empty(POINTS, np.int32), _network_scratch(network)
        slab = grid[i].reshape(size * size)
        for start in range(0, size * size, POINTS):
            count = min(POINTS, size * size - start)
            for n in range(count):
                points[n, 0] = (np.float32(i) + HALF) * step
                points[n, 1] = (np.float32((start + n) // size) + HALF) * step
                points[n, 2] = (np.float32((start + n) % size) + HALF) * step
            _densities(points, inside, count, network, scratch, bits, slab[start:])


@kernel()
def _place(origin, direction, distance, points, inside, n):
    """Put the point at a ray's ``distance`` in the unit cube, and say whether it is in there."""
    x, y, z = contracted(
        origin[0] + direction[0] * distance, origin[1] + direction[1] * distance, origin[2] + direction[2] * distance
    )
    known = min(x, y, z) > ZERO and max(x, y, z) < ONE
    points[n, 0], points[n, 1], points[n, 2] = (x, y, z) if known else (ZERO, ZERO, ZERO)
    inside[n] = ONE if known else ZERO


@kernel(parallel=True, cache=True, nogil=True)
def march(rays, occupied, proposal0, proposal1, field, head, background, counts, far, anneal, colours, wanted, out):
    """What R rays see, into ``out`` (R, 5 + S): color, distance, opacity, the distances by which S ``wanted`` are met.

    ``rays``: origins and directions (R, 3), NeRF frame, and harmonics (R, 16) of the directions. ``occupied``
    (G, G, G): about an upper bound of the first proposal's density. ``counts``: samples of the first proposal, of the
    second (0: there is none) and of the field. ``far``: the end of rays in the samplers' spacing. ``background`` (3),
    or (0) where it is what the last sample shows. ``colours``: asked of a ray, at most.
    """
    for worker in numba.prange(WORKERS):
        _march(
            worker,
            rays,
            occupied,
            proposal0,
            proposal1,
            field,
            head,
            background,
            counts,
            far,
            anneal,
            colours,
            wanted,
            out,
        )


@kernel()
def _march(
    worker, rays, occupied, proposal0, proposal1, field, head, background, counts, far, anneal, colours, wanted, out
):
    """One worker's share of `march`."""
    origins, directions, harmonics = rays
    first, second, last = counts
    most = max(first, second, last)
    features = field[4].shape[0] - 1  # of geometry; a padded row is zero
    edges0 = np.empty(first + 1, np.float32)
    for s in range(first + 1):
        edges0[s] = np.float32(s) / np.float32(first)
    edges, drawn = np.empty((RAYS, most + 1), np.float32), np.empty((RAYS, most + 1), np.float32)
    passed, weights = np.empty((RAYS, most), np.float32), np.empty((RAYS, most), np.float32)
    light, live = np.empty(RAYS, np.float32), np.empty(RAYS, np.int32)
    geometry = np.empty((RAYS, last, features), np.float32)
    points, inside = np.empty((POINTS, 3), np.float32), np.empty(POINTS, np.float32)
    density, lengths = np.empty(POINTS, np.float32), np.empty(POINTS, np.float32)
    bits = np.empty(max(POINTS, most), np.int32)
    of_ray, of_sample = np.empty(POINTS, np.int32), np.empty(POINTS, np.int32)
    scratch0, scratch1 = _network_scratch(proposal0), _network_scratch(proposal1)
    encoded, hidden, result = _network_scratch(field)
    asked = np.zeros((head[0].shape[1], POINTS), np.float32)
    layers = (
        np.zeros((head[2].shape[1], POINTS), np.float32),
        np.zeros((head[4].shape[1], POINTS), np.float32),
        np.zeros((head[4].shape[0], POINTS), np.float32),
    )
    shares, means = np.empty(colours, np.float32), np.empty((colours, features), np.float32)
    for start in range(worker * RAYS, len(origins), WORKERS * RAYS):
        block = min(RAYS, len(origins) - start)
        # The first proposal, where something is.
        filled = 0
        for r in range(block):
            near = ZERO
            for s in range(first):
                end = _distance(edges0[s + 1], far)
                _place(origins[start + r], directions[start + r], (near + end) * HALF, points, inside, filled)
                passed[r, s] = ZERO
                if _nearest(occupied, points, filled) * (end - near) > THIN:
                    lengths[filled] = near - end
                    of_ray[filled], of_sample[filled] = r, s
                    filled += 1
                near = end
                if filled == POINTS or (filled and r == block - 1 and s == first - 1):
                    _densities(points, inside, filled, proposal0, scratch0, bits, density)
                    for n in range(filled):
                        passed[of_ray[n], of_sample[n]] = density[n] * lengths[n]
                    filled = 0
        for r in range(block):
            exponential(passed[r, :first], bits)
            light[r] = _weigh(passed[r], first, anneal, weights[r])
            _resample(edges0, weights[r], first, edges[r], second if second else last)
        # The second.
        if second:
            for begin in range(0, block * second, POINTS):
                count = min(POINTS, block * second - begin)
                for n in range(count):
                    r, s = (begin + n) // second, (begin + n) % second
                    low, high = _distance(edges[r, s], far), _distance(edges[r, s + 1], far)
                    _place(origins[start + r], directions[start + r], (low + high) * HALF, points, inside, n)
                    lengths[n] = low - high
                _densities(points, inside, count, proposal1, scratch1, bits, density)
                for n in range(count):
                    passed[(begin + n) // second, (begin + n) % second] = density[n] * lengths[n]
            for r in range(block):
                exponential(passed[r, :second], bits)
                light[r] = _weigh(passed[r], second, anneal, weights[r])
                _resample(edges[r], weights[r], second, drawn[r], last)
            edges, drawn = drawn, edges
        # The field: density along the rays that met something, as long as they are not opaque.
        for r in range(block):
            live[r] = light[r] > EMPTY or len(background) == 0
            light[r] = ONE
            for s in range(last):
                passed[r, s] = ONE
        for wave in range(0, last, WAVE):
            ends = min(wave + WAVE, last)
            filled = 0
            for r in range(block):
                for s in range(wave, ends if live[r] else wave):
                    low, high = _distance(edges[r, s], far), _distance(edges[r, s + 1], far)
                    _place(origins[start + r], directions[start + r], (low + high) * HALF, points, inside, filled)
                    lengths[filled] = (low - high) * inside[filled]
                    of_ray[filled], of_sample[filled] = r, s
                    filled += 1
                    if filled == POINTS:
                        _field(points, filled, field, encoded, hidden, result, bits)
                        _keep(result, lengths, field[6], of_ray, of_sample, filled, passed, geometry)
                        filled = 0
            if filled:
                _field(points, filled, field, encoded, hidden, result, bits)
                _keep(result, lengths, field[6], of_ray, of_sample, filled, passed, geometry)
            for r in range(block):
                if live[r]:
                    exponential(passed[r, wave:ends], bits)
                    for s in range(wave, ends):
                        light[r] *= passed[r, s]
                    live[r] = light[r] > OPAQUE
        # Color.
        filled = 0
        for r in range(block):
            stopped = _weigh(passed[r], last, ONE, weights[r])
            _look(weights[r], edges[r], last, stopped, far, background, wanted, out[start + r])
            _share(weights[r], last, stopped, geometry[r], shares, means)
            for g in range(colours + 1):
                if g < colours:
                    weight = shares[g]
                    if weight <= FAINT:
                        continue
                    for f in range(features):
                        asked[16 + f, filled] = means[g, f] / weight
                else:
                    weight = ONE - stopped
                    if len(background) or weight <= FAINT or not live[r]:
                        continue
                    for f in range(features):
                        asked[16 + f, filled] = geometry[r, last - 1, f]
                for f in range(16):
                    asked[f, filled] = harmonics[start + r, f]
                lengths[filled] = weight
                of_ray[filled] = start + r
                filled += 1
                if filled == POINTS:
                    _color(asked, head, layers, bits, lengths, of_ray, filled, out)
                    filled = 0
        if filled:
            _color(asked, head, layers, bits, lengths, of_ray, filled, out)


@kernel()
def _met(weights, edges, count, share, far):
    """The distance by which a share of a ray is met, of the last sample where it never is."""
    first, sum_ = count - 1, ZERO
    for s in range(count):
        sum_ += weights[s]
        if sum_ >= share:
            first = s
            break
    return (_distance(edges[first], far) + _distance(edges[first + 1], far)) * HALF


@kernel()
def _look(weights, edges, count, stopped, far, background, wanted, seen):
    """Median distance, opacity, what of the background comes through and the distances by which the shares ``wanted``
    (S) are met, of one ray, into ``seen`` (5 + S)."""
    for c in range(3):
        seen[c] = (ONE - stopped) * background[c] if len(background) else ZERO
    seen[3] = _met(weights, edges, count, HALF, far)
    seen[4] = stopped
    for n in range(len(wanted)):
        seen[5 + n] = _met(weights, edges, count, wanted[n], far)


@kernel()
def _share(weights, count, stopped, geometry, shares, means):
    """Divide the samples of a ray, in order, into shares of about the same weight: their weights, and the sums of their
    weighted features."""
    colours, features = means.shape
    for g in range(colours):
        shares[g] = ZERO
        for f in range(features):
            means[g, f] = ZERO
    if stopped <= EMPTY:
        return
    sum_ = ZERO
    for s in range(count):
        weight = weights[s]
        if weight > ZERO:
            g = min(max(np.int64((sum_ + weight * HALF) / stopped * np.float32(colours)), 0), colours - 1)
            sum_ += weight
            shares[g] += weight
            for f in range(features):
                means[g, f] += weight * geometry[s, f]


@kernel()
def _field(points, count, field, encoded, hidden, result, bits):
    """Density, without its unit, and features of geometry at the first ``count`` points, a row each."""
    table, scalings, base, base_bias, top, top_bias, _ = field
    encode_block(points, count, table, scalings, encoded)
    dense(base, base_bias, encoded, hidden, True)
    dense(top, top_bias, hidden, result, False)
    exponential(result[0], bits)


@kernel()
def _keep(result, lengths, unit, of_ray, of_sample, count, passed, geometry):
    """Put a block's optical depths (negative) and features where they belong."""
    for n in range(count):
        r, s = of_ray[n], of_sample[n]
        passed[r, s] = result[0, n] * lengths[n] * unit
        for f in range(geometry.shape[2]):
            geometry[r, s, f] = result[1 + f, n]


@kernel()
def _color(asked, head, layers, bits, weights, of_ray, count, out):
    """Add a block's colors to their rays, weighted."""
    head1, bias1, head2, bias2, head3, bias3 = head
    layer1, layer2, shown = layers
    dense(head1, bias1, asked, layer1, True)
    dense(head2, bias2, layer1, layer2, True)
    dense(head3, bias3, layer2, shown, False)
    for c in range(3):
        channel = shown[c]
        for n in range(len(channel)):
            channel[n] = -channel[n]
        exponential(channel, bits)
        for n in range(count):
            out[of_ray[n], c] += weights[n] / (ONE + channel[n])
