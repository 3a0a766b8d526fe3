"""The non-local block in float64 NumPy, position by position, straight from the equations of the paper.

Slow on purpose: loops over every i and every j, no matrix of positions, no code of the package. `weights` maps
"theta/kernel" (C, C'), "theta/bias" (C',), the same for phi, g and out, "w_f" (2 C',) and "norm/gamma", "norm/beta",
"norm/moving_mean", "norm/moving_variance" to arrays; what a form does not have, or a block leaves out, is missing.
"""

import numpy as np

SOFTMAX_FORMS = ("gaussian", "embedded_gaussian")
EMBEDDED_FORMS = ("embedded_gaussian", "dot_product", "concatenation")


def block(
    x,
    weights,
    pairwise="embedded_gaussian",
    pool_size=None,
    pool_before_projection=True,
    scale=True,
    extent="spacetime",
    group_frames=None,
    norm_epsilon=1e-5,
    mask=None,
    training=False,
):
    """z = norm(W_z y) + x (Eq. 6) and the attention.

    Args:
      x: (B, *positions, C).
      weights: see above.
      pool_size: one int for each position axis, None for no pooling. Axes outside the extent are not pooled.
      mask: (B, *positions) boolean or None.
      training: normalise by the statistics of this batch.

    Returns:
      z, and the attention (B, sets, N, M), with the sets in the order of their first positions.
    """
    x = np.asarray(x, np.float64)
    positions = x.shape[1:-1]
    mask = np.ones(x.shape[:-1], bool) if mask is None else np.asarray(mask, bool)
    pool_size = _pool_inside_extent(pool_size or (1,) * len(positions), extent)
    embedded = pairwise in EMBEDDED_FORMS

    y, attention = [], []
    for example, valid in zip(x, mask, strict=True):
        example = np.where(valid[..., None], example, 0.0)
        if pool_before_projection or not embedded:
            pooled, key_valid = _max_pool(example, valid, pool_size)
            phi = _project(pooled, weights, "phi") if embedded else pooled
        else:
            phi, key_valid = _max_pool(_project(example, weights, "phi"), valid, pool_size)
        if pool_before_projection:
            g = _project(_max_pool(example, valid, pool_size)[0], weights, "g")
        else:
            g, _ = _max_pool(_project(example, weights, "g"), valid, pool_size)
        theta = _project(example, weights, "theta") if embedded else example

        y_example = np.zeros((*positions, g.shape[-1]))
        rows, keys_of = {}, {}
        for j in np.ndindex(*key_valid.shape):
            keys_of.setdefault(_set_of(j, extent, group_frames), []).append(j)
        for i in np.ndindex(*positions):
            own_set = _set_of(i, extent, group_frames)
            keys = keys_of[own_set]
            row = _attention_row(pairwise, theta[i], phi, keys, key_valid, weights.get("w_f"), scale)
            for weight, j in zip(row, keys, strict=True):
                y_example[i] += weight * g[j]  # Eq. 1
            rows.setdefault(own_set, []).append(row)
        y.append(y_example)
        attention.append([rows[own_set] for own_set in sorted(rows)])

    w_z_y = _project(np.stack(y), weights, "out")
    if "norm/gamma" in weights:
        w_z_y = _normalise(w_z_y, weights, norm_epsilon, mask, training)
    return np.where(mask[..., None], x + w_z_y, x), np.array(attention)


def _attention_row(pairwise, theta_i, phi, keys, key_valid, w_f, scale):
    """f(x_i, x_j) / C(x) for each j in keys."""
    scores = []
    for j in keys:
        if pairwise == "concatenation":
            scores.append(max(0.0, w_f @ np.concatenate([theta_i, phi[j]])))  # Eq. 5
        else:
            scores.append(theta_i @ phi[j])  # Eq. 2, 3 (their exponents) and 4
    scores = np.array(scores)
    valid = np.array([key_valid[j] for j in keys])
    if not valid.any():
        return np.zeros(len(keys))
    if pairwise in SOFTMAX_FORMS:
        if scale and pairwise == "embedded_gaussian":
            scores = scores / np.sqrt(len(theta_i))
        f = np.exp(np.where(valid, scores, -np.inf) - scores[valid].max())
        return f / f.sum()
    return np.where(valid, scores, 0.0) / valid.sum()


def _set_of(position, extent, group_frames):
    """Names the set of a position; keys of another set are not summed over."""
    if len(position) == 1:
        return (position[0] // group_frames,) if group_frames else ()
    if len(position) == 2:
        return ()
    time, height, width = position
    group = (time // group_frames,) if group_frames else ()
    return {"spacetime": group, "space": (time,), "time": (*group, height, width)}[extent]


def _pool_inside_extent(pool_size, extent):
    if len(pool_size) < 3 or extent == "spacetime":
        return tuple(pool_size)
    return (1, *pool_size[1:]) if extent == "space" else (pool_size[0], 1, 1)


def _max_pool(x, valid, pool_size):
    """The maximum over the valid positions of each full window, and whether it has any."""
    pooled_shape = tuple(size // pool for size, pool in zip(valid.shape, pool_size, strict=True))
    pooled, pooled_valid = np.zeros((*pooled_shape, x.shape[-1])), np.zeros(pooled_shape, bool)
    for j in np.ndindex(*pooled_shape):
        window = tuple(slice(index * pool, (index + 1) * pool) for index, pool in zip(j, pool_size, strict=True))
        inside = x[window][valid[window]]  # (valid positions, C)
        if len(inside):
            pooled[j], pooled_valid[j] = inside.max(axis=0), True
    return pooled, pooled_valid


def _project(x, weights, name):
    return x @ weights[f"{name}/kernel"] + weights.get(f"{name}/bias", 0.0)


def _normalise(y, weights, epsilon, mask, training):
    mean, variance = weights["norm/moving_mean"], weights["norm/moving_variance"]
    if training:
        rows = y[mask]
        mean, variance = rows.mean(axis=0), rows.var(axis=0)
    return (y - mean) / np.sqrt(variance + epsilon) * weights["norm/gamma"] + weights["norm/beta"]
