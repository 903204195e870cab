# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels of along.py in Warp, a thread a ray. Import it through kernels.py.

R rays, S samples on each, in order; all tensors are contiguous and of 32 bits.
"""

from __future__ import annotations

import warp as wp
from torch import Tensor

from engine.scenes.nerfacto.along import Along
from engine.scenes.nerfacto.warp_launch import array, launch

PADDING = wp.constant(0.01)  # of every bin's weight, as nerfstudio's PDFSampler has it
LEAST = wp.constant(1e-5)
EPSILON = wp.constant(1e-7)  # of the interlevel loss


@wp.func
def _spaced(x: float) -> float:
    """nerfstudio's spacing: even up to a distance of 1, then in disparity."""
    if x < 1.0:
        return x / 2.0
    return 1.0 - 1.0 / (2.0 * x)


@wp.func
def _distance(place: float, near: float, far: float) -> float:
    """How far along a ray a place (0–1) between its ends lies."""
    x = place * _spaced(far) + (1.0 - place) * _spaced(near)
    if x < 0.5:
        return 2.0 * x
    return 1.0 / (2.0 - 2.0 * x)


@wp.func
def _largest(p: wp.vec3) -> int:
    """Along which axis a point is farthest out."""
    a = wp.vec3(wp.abs(p[0]), wp.abs(p[1]), wp.abs(p[2]))
    if a[0] >= a[1] and a[0] >= a[2]:
        return 0
    if a[1] >= a[2]:
        return 1
    return 2


@wp.kernel(enable_backward=False)
def _placed(
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    edges: wp.array(dtype=float, ndim=2),
    nears: wp.array(dtype=float),
    fars: wp.array(dtype=float),
    points: wp.array(dtype=wp.vec3, ndim=2),
    deltas: wp.array(dtype=float, ndim=2),
    middles: wp.array(dtype=float, ndim=2),
):
    """Where samples lie in the cube 0–1 that all of space is contracted into, how long they are, and how far."""
    ray, i = wp.tid()
    start = _distance(edges[ray, i], nears[ray], fars[ray])
    end = _distance(edges[ray, i + 1], nears[ray], fars[ray])
    middle = (start + end) / 2.0
    p = origins[ray] + directions[ray] * middle
    size = wp.abs(p[_largest(p)])
    if size >= 1.0:
        p = (2.0 - 1.0 / size) * (p / size)
    p = (p + wp.vec3(2.0, 2.0, 2.0)) / 4.0
    inside = p[0] > 0.0 and p[1] > 0.0 and p[2] > 0.0 and p[0] < 1.0 and p[1] < 1.0 and p[2] < 1.0
    length = end - start
    if not inside:  # or no number: it adds nothing
        p = wp.vec3(0.0, 0.0, 0.0)
        length = 0.0
    points[ray, i] = p
    deltas[ray, i] = length
    middles[ray, i] = middle


@wp.kernel(enable_backward=False)
def _placed_back(
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    deltas: wp.array(dtype=float, ndim=2),
    middles: wp.array(dtype=float, ndim=2),
    grad: wp.array(dtype=wp.vec3, ndim=2),
    grad_origins: wp.array(dtype=wp.vec3),
    grad_directions: wp.array(dtype=wp.vec3),
):
    ray = wp.tid()
    of_origin = wp.vec3(0.0, 0.0, 0.0)
    of_direction = wp.vec3(0.0, 0.0, 0.0)
    for i in range(middles.shape[1]):
        if deltas[ray, i] > 0.0:
            p = origins[ray] + directions[ray] * middles[ray, i]
            g = grad[ray, i] / 4.0
            axis = _largest(p)
            size = wp.abs(p[axis])
            if size >= 1.0:  # p' = s(|p|) p, with s = 2/m − 1/m²
                along = wp.dot(g, p) * (2.0 / size - 2.0) / (size * size) * wp.sign(p[axis])
                g = g * ((2.0 - 1.0 / size) / size)
                g[axis] = g[axis] + along
            of_origin += g
            of_direction += g * middles[ray, i]
    grad_origins[ray] = of_origin
    grad_directions[ray] = of_direction


@wp.kernel(enable_backward=False)
def _weights(
    raw: wp.array(dtype=float, ndim=2),
    initial: float,
    deltas: wp.array(dtype=float, ndim=2),
    weights: wp.array(dtype=float, ndim=2),
):
    ray = wp.tid()
    passed = float(0.0)
    for i in range(raw.shape[1]):
        thick = initial * wp.exp(raw[ray, i]) * deltas[ray, i]
        weight = (1.0 - wp.exp(-thick)) * wp.exp(-passed)
        passed += thick
        if not wp.isfinite(weight):
            weight = 0.0
        weights[ray, i] = weight


@wp.kernel(enable_backward=False)
def _weights_back(
    raw: wp.array(dtype=float, ndim=2),
    initial: float,
    deltas: wp.array(dtype=float, ndim=2),
    weights: wp.array(dtype=float, ndim=2),
    grad: wp.array(dtype=float, ndim=2),
    grad_raw: wp.array(dtype=float, ndim=2),
):
    """∂w_j/∂(σ_i δ_i) is what still passes sample i where j = i, and −w_j behind it. The slope of σ = e^raw is bounded,
    as nerfstudio's is."""
    ray = wp.tid()
    count = raw.shape[1]
    behind = float(0.0)
    for i in range(count):
        behind += grad[ray, i] * weights[ray, i]
    passed = float(0.0)
    for i in range(count):
        behind -= grad[ray, i] * weights[ray, i]
        passed += initial * wp.exp(raw[ray, i]) * deltas[ray, i]
        of_density = deltas[ray, i] * (grad[ray, i] * wp.exp(-passed) - behind)
        grad_raw[ray, i] = of_density * initial * wp.exp(wp.clamp(raw[ray, i], -15.0, 15.0))


@wp.kernel(enable_backward=False)
def _composite(
    weights: wp.array(dtype=float, ndim=2),
    colors: wp.array(dtype=wp.vec3, ndim=2),
    middles: wp.array(dtype=float, ndim=2),
    background: wp.array(dtype=wp.vec3),
    last_sample: int,
    rgb: wp.array(dtype=wp.vec3),
    opacity: wp.array(dtype=float),
    depth: wp.array(dtype=float),
):
    ray = wp.tid()
    count = weights.shape[1]
    total = wp.vec3(0.0, 0.0, 0.0)
    full = float(0.0)
    median = int(-1)
    for i in range(count):
        total += weights[ray, i] * colors[ray, i]
        full += weights[ray, i]
        if median < 0 and full >= 0.5:
            median = i
    if median < 0:
        median = count - 1
    if last_sample != 0:
        total += (1.0 - full) * colors[ray, count - 1]
    else:
        total += (1.0 - full) * background[ray]
    rgb[ray] = total
    opacity[ray] = full
    depth[ray] = middles[ray, median]


@wp.kernel(enable_backward=False)
def _composite_back(
    weights: wp.array(dtype=float, ndim=2),
    colors: wp.array(dtype=wp.vec3, ndim=2),
    background: wp.array(dtype=wp.vec3),
    last_sample: int,
    grad_rgb: wp.array(dtype=wp.vec3),
    grad_opacity: wp.array(dtype=float),
    grad_weights: wp.array(dtype=float, ndim=2),
    grad_colors: wp.array(dtype=wp.vec3, ndim=2),
):
    ray = wp.tid()
    count = weights.shape[1]
    behind = wp.vec3(0.0, 0.0, 0.0)
    if last_sample != 0:
        behind = colors[ray, count - 1]
    else:
        behind = background[ray]
    full = float(0.0)
    for i in range(count):
        full += weights[ray, i]
        grad_weights[ray, i] = wp.dot(grad_rgb[ray], colors[ray, i] - behind) + grad_opacity[ray]
        grad_colors[ray, i] = weights[ray, i] * grad_rgb[ray]
    if last_sample != 0:
        grad_colors[ray, count - 1] = (weights[ray, count - 1] + 1.0 - full) * grad_rgb[ray]


@wp.kernel(enable_backward=False)
def _resampled(
    weights: wp.array(dtype=float, ndim=2),
    anneal: float,
    edges: wp.array(dtype=float, ndim=2),
    jitter: wp.array(dtype=float),
    made: wp.array(dtype=float, ndim=2),
):
    """Invert a ray's cumulative distribution at evenly spaced places, each ``jitter`` (of a step) later: both only
    grow, so that one walk along the bins does."""
    ray = wp.tid()
    bins = weights.shape[1]
    total = float(0.0)
    for i in range(bins):
        total += wp.pow(weights[ray, i], anneal) + PADDING
    padding = wp.max(LEAST - total, 0.0)
    total += padding
    each = padding / float(bins)
    places = made.shape[1]
    bin = int(0)
    low = float(0.0)
    high = wp.min(1.0, (wp.pow(weights[ray, 0], anneal) + PADDING + each) / total)
    summed = high
    for k in range(places):
        u = (float(k) + jitter[ray]) / float(places)
        while bin < bins - 1 and high <= u:
            bin += 1
            low = high
            summed += (wp.pow(weights[ray, bin], anneal) + PADDING + each) / total
            high = wp.min(1.0, summed)
        t = float(0.0)
        if high > low:
            t = wp.clamp((u - low) / (high - low), 0.0, 1.0)
        made[ray, k] = edges[ray, bin] + t * (edges[ray, bin + 1] - edges[ray, bin])


@wp.func
def _overlap(
    edges: wp.array(dtype=float, ndim=2), ray: int, bins: int, first: int, start: float, end: float
) -> wp.vec2i:
    """The bins that hold ``start`` and ``end``, looked for from ``first`` on, both with what they hold."""
    low = first
    while low + 1 < bins and edges[ray, low + 1] <= start:
        low += 1
    high = low
    while high + 1 < bins and edges[ray, high + 1] <= end:
        high += 1
    return wp.vec2i(low, high)


@wp.kernel(enable_backward=False)
def _interlevel(
    edges: wp.array(dtype=float, ndim=2),
    weights: wp.array(dtype=float, ndim=2),
    coarse_edges: wp.array(dtype=float, ndim=2),
    coarse_weights: wp.array(dtype=float, ndim=2),
    losses: wp.array(dtype=float),
    slopes: wp.array(dtype=float, ndim=2),
):
    """How far the fine histogram stands out of the coarse one (Mip-NeRF 360, eq. 13), and its slope there."""
    ray = wp.tid()
    bins = coarse_weights.shape[1]
    for j in range(bins):
        slopes[ray, j] = 0.0
    total = float(0.0)
    first = int(0)
    for i in range(weights.shape[1]):
        found = _overlap(coarse_edges, ray, bins, first, edges[ray, i], edges[ray, i + 1])
        first = found[0]
        bound = float(0.0)
        for j in range(found[0], found[1] + 1):
            bound += coarse_weights[ray, j]
        weight = weights[ray, i]
        over = wp.max(weight - bound, 0.0)
        total += over * over / (weight + EPSILON)
        if over > 0.0:
            for j in range(found[0], found[1] + 1):
                slopes[ray, j] = slopes[ray, j] - 2.0 * over / (weight + EPSILON)
    losses[ray] = total


@wp.kernel(enable_backward=False)
def _distortion(
    edges: wp.array(dtype=float, ndim=2),
    weights: wp.array(dtype=float, ndim=2),
    losses: wp.array(dtype=float),
    slopes: wp.array(dtype=float, ndim=2),
):
    """How spread out a ray's weights are (Mip-NeRF 360, eq. 15), in one walk instead of all pairs, and its slope."""
    ray = wp.tid()
    count = weights.shape[1]
    mass = float(0.0)
    moment = float(0.0)
    for i in range(count):
        middle = (edges[ray, i] + edges[ray, i + 1]) / 2.0
        mass += weights[ray, i]
        moment += weights[ray, i] * middle
    before = float(0.0)
    moment_before = float(0.0)
    total = float(0.0)
    for i in range(count):
        weight = weights[ray, i]
        width = edges[ray, i + 1] - edges[ray, i]
        middle = (edges[ray, i] + edges[ray, i + 1]) / 2.0
        behind = mass - before - weight
        apart = middle * before - moment_before + (moment - moment_before - weight * middle) - middle * behind
        total += weight * apart + weight * weight * width / 3.0
        slopes[ray, i] = 2.0 * apart + 2.0 * weight * width / 3.0
        before += weight
        moment_before += weight * middle
    losses[ray] = total


@wp.kernel(enable_backward=False)
def _harmonics(directions: wp.array(dtype=wp.vec3), made: wp.array(dtype=float, ndim=2)):
    """nerfstudio's spherical harmonics of degree 0 to 3, of a direction that it has moved into the unit cube."""
    ray = wp.tid()
    x = (directions[ray][0] + 1.0) / 2.0
    y = (directions[ray][1] + 1.0) / 2.0
    z = (directions[ray][2] + 1.0) / 2.0
    xx = x * x
    yy = y * y
    zz = z * z
    made[ray, 0] = 0.28209479177387814
    made[ray, 1] = 0.4886025119029199 * y
    made[ray, 2] = 0.4886025119029199 * z
    made[ray, 3] = 0.4886025119029199 * x
    made[ray, 4] = 1.0925484305920792 * x * y
    made[ray, 5] = 1.0925484305920792 * y * z
    made[ray, 6] = 0.9461746957575601 * zz - 0.31539156525251999
    made[ray, 7] = 1.0925484305920792 * x * z
    made[ray, 8] = 0.5462742152960396 * (xx - yy)
    made[ray, 9] = 0.5900435899266435 * y * (3.0 * xx - yy)
    made[ray, 10] = 2.890611442640554 * x * y * z
    made[ray, 11] = 0.4570457994644658 * y * (5.0 * zz - 1.0)
    made[ray, 12] = 0.3731763325901154 * z * (5.0 * zz - 3.0)
    made[ray, 13] = 0.4570457994644658 * x * (5.0 * zz - 1.0)
    made[ray, 14] = 1.445305721320277 * z * (xx - yy)
    made[ray, 15] = 0.5900435899266435 * x * (xx - 3.0 * yy)


KERNELS = {
    "placed": _placed,
    "placed_back": _placed_back,
    "weights": _weights,
    "weights_back": _weights_back,
    "composite": _composite,
    "composite_back": _composite_back,
    "resampled": _resampled,
    "interlevel": _interlevel,
    "distortion": _distortion,
    "harmonics": _harmonics,
}


def _run(name: str, given: tuple[Tensor | float, ...], made: tuple[Tensor, ...]) -> None:
    kernel = KERNELS[name]
    kinds = [getattr(argument.type, "dtype", None) for argument in kernel.adj.args]
    arrays = [
        array(each, kind) if isinstance(each, Tensor) else each
        for each, kind in zip((*given, *made), kinds, strict=True)
    ]
    size = tuple(made[0].shape[:2]) if name == "placed" else len(made[0])  # a thread a sample, else a ray
    launch(kernel, size, tuple(arrays[: len(given)]), tuple(arrays[len(given) :]), made[0].device)


ALONG = Along(_run, compiled_networks=False)
