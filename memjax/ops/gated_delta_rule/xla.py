"""The gated delta rule in chunks of matrix products, forward and backward, for XLA on any platform.

Inside a chunk of C tokens, with S the state before it, p_i the decay from its start to token i, r_j from token j to its
end, D_ij from j to i (arXiv 2412.06464, section 3.3, and 2510.26692 for the gate a channel):

    A = strict_lower(beta_i D_ij k_i.k_j)      X = (I + A)^-1        P = lower(D_ij q_i.k_j)
    E = V - (p K) S        V' = X (beta E)     O = (p Q) S + P V'    S <- keep S + (r K)^T V'

The backward keeps q, k, v, the gates and X, rebuilds the states chunk by chunk, and needs no derivative of the
inverse: with dR = X^T dV', the cotangent of A is -strict_lower(dR V'^T).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from memjax.ops.gated_delta_rule import decays, reference, tiling

_dot = partial(jnp.einsum, precision="highest")


def gated_delta_rule(q, k, v, log_decay, beta, scale, initial_state, docs):
    """Arguments as in `reference.gated_delta_rule`."""
    batch, time, groups, values = v.shape
    if time == 1:  # decoding: the definition is the cheapest form
        return reference.gated_delta_rule(q, k, v, log_decay, beta, scale, initial_state, docs)
    q, k = (jnp.repeat(x, groups // x.shape[2], axis=2) for x in (q * scale, k))
    split = partial(_split, chunk=tiling.choose(time).chunk)
    masks = None
    if docs is not None:
        index = jnp.broadcast_to(docs.index[:, :, None], (batch, time, groups))
        masks = decays.masks(split(index, mode="edge"))
    state = initial_state.reshape(batch * groups, *initial_state.shape[2:])
    gate = None if log_decay is None else split(log_decay)
    o, state = _chunked(split(q), split(k), split(v), gate, split(beta), state, masks)
    o = jnp.transpose(o.reshape(-1, batch, groups, *o.shape[2:]), (1, 0, 3, 2, 4))
    return o.reshape(batch, -1, groups, values)[:, :time], state.reshape(initial_state.shape)


def _split(x, chunk, mode="constant"):
    """[B, T, G, ...] to [N, B * G, C, ...]; zeros behind the end neither write nor decay."""
    batch, time, groups = x.shape[:3]
    x = jnp.pad(x, ((0, 0), (0, -time % chunk), *[(0, 0)] * (x.ndim - 2)), mode=mode)
    x = jnp.moveaxis(x.reshape(batch, -1, chunk, *x.shape[2:]), (1, 3), (0, 2))
    return x.reshape(-1, batch * groups, chunk, *x.shape[4:])


@jax.custom_vjp
def _chunked(q, k, v, log_decay, beta, state, masks):
    return _forward(q, k, v, log_decay, beta, state, masks)[0]


def _forward(*inputs):
    """Primal outputs and what the backward keeps: the inputs and the inverse."""

    def run(parts, q, k, v, log_decay, beta, state, masks):
        xs = []
        for part in _cut((q, k, log_decay, beta, masks, v), parts, axis=1):
            chunks = decays.chunks(*part[:5])
            xs.append((chunks, invert(chunks.a), part[5], part[3]))
        final, o = _scan(_forward_step, _cut(state, parts, axis=0), xs)
        return _paste(o, axis=1), _paste(final, axis=0), _paste([inverse for _, inverse, _, _ in xs], axis=1)

    o, final, inverse = _by_platform(run, inputs)
    return (o, final), (*inputs, inverse)


def _backward(saved, cotangents):
    def run(parts, q, k, v, log_decay, beta, state, masks, inverse, d_o, d_final):
        xs, pulls = [], []
        for part in _cut(((q, k, log_decay, beta), masks, inverse, v, d_o), parts, axis=1):
            differentiable, mask, *rest = part
            chunks, pull = jax.vjp(lambda q, k, g, b, mask=mask: decays.chunks(q, k, g, b, mask), *differentiable)
            xs.append((chunks, *rest[:2], differentiable[-1], rest[2]))
            pulls.append(pull)
        _, rebuilt = _scan(_rebuild_step, _cut(state, parts, axis=0), [x[:4] for x in xs])
        xs = [(*x, *more) for x, more in zip(xs, rebuilt, strict=True)]
        d_state, by_part = _scan(_backward_step, _cut(d_final, parts, axis=0), xs, reverse=True)
        gradients = []
        for pull, (d_chunks, d_v, d_beta) in zip(pulls, by_part, strict=True):
            d_q, d_k, d_log_decay, d_beta_in_a = pull(d_chunks)
            gradients.append((d_q, d_k, d_v, d_log_decay, d_beta + d_beta_in_a))
        return (*_paste(gradients, axis=1), _paste(d_state, axis=0))

    return *_by_platform(run, (*saved, *cotangents)), None


_chunked.defvjp(_forward, _backward)


def _forward_step(state, x):
    (_, p, k_in, q_in, k_out, keep), inverse, v, beta = x
    _, written = _write(inverse, v, beta, k_in, state)
    o = _dot("mck,mkv->mcv", q_in, state) + _dot("mij,mjv->miv", p, written)
    return keep * state + _dot("mck,mcv->mkv", k_out, written), o


def _rebuild_step(state, x):
    chunks, inverse, v, beta = x
    error, written = _write(inverse, v, beta, chunks.k_in, state)
    return chunks.keep * state + _dot("mck,mcv->mkv", chunks.k_out, written), (state, error, written)


def _write(inverse, v, beta, k_in, state):
    """E and V', [M, C, V]: what the memory gets wrong, and what the chunk writes."""
    error = v - _dot("mck,mkv->mcv", k_in, state)
    return error, _dot("mij,mjv->miv", inverse, beta[..., None] * error)


def _backward_step(d_next, x):
    (_, p, k_in, q_in, k_out, keep), inverse, _, beta, d_o, state, error, written = x
    d_written = _dot("mij,miv->mjv", p, d_o) + _dot("mck,mkv->mcv", k_out, d_next)
    d_r = _dot("mij,miv->mjv", inverse, d_written)
    d_v = beta[..., None] * d_r
    d_keep = (d_next * state).sum(-1, keepdims=True)
    d_chunks = decays.Chunks(
        a=-_dot("miv,mjv->mij", d_r, written),
        p=_dot("miv,mjv->mij", d_o, written),
        k_in=-_dot("mcv,mkv->mck", d_v, state),
        q_in=_dot("mcv,mkv->mck", d_o, state),
        k_out=_dot("mcv,mkv->mck", written, d_next),
        keep=d_keep if keep.shape[-2] > 1 else d_keep.sum(-2, keepdims=True),
    )
    d_state = keep * d_next + _dot("mck,mcv->mkv", q_in, d_o) - _dot("mck,mcv->mkv", k_in, d_v)
    return d_state, (d_chunks, d_v, (d_r * error).sum(-1))


def _by_platform(run, inputs):
    """XLA runs a batched product on one CPU thread, but independent products side by side: there heads go in parts."""
    rows, keys, values = inputs[0].shape[1], inputs[0].shape[-1], inputs[2].shape[-1]
    return jax.lax.platform_dependent(
        *inputs, cpu=partial(run, tiling.cpu_parts(rows, keys, values)), default=partial(run, 1)
    )


def _cut(tree, parts, axis):
    cut = lambda x, i: jax.lax.slice_in_dim(
        x, i * (x.shape[axis] // parts), (i + 1) * (x.shape[axis] // parts), axis=axis
    )
    return [jax.tree.map(partial(cut, i=i), tree) for i in range(parts)]


def _paste(trees, axis):
    return jax.tree.map(lambda *x: jnp.concatenate(x, axis), *trees)


def _scan(step, carries, xs, reverse=False):
    """One scan over chunks whose body takes a step in every part."""

    def body(carries, xs):
        results = [step(carry, x) for carry, x in zip(carries, xs, strict=True)]
        return tuple(carry for carry, _ in results), tuple(y for _, y in results)

    return jax.lax.scan(body, tuple(carries), tuple(xs), reverse=reverse)


def invert(a):
    """(I + a)^-1 for strictly lower a [N, M, C, C], C a power of two.

    Blocks of 16 rows by forward substitution, then doubled: with both halves of a block solved, the corner is
    -X22 a21 X11. No powers of a are formed (these overflow for long keys), and no LAPACK call.
    """
    size = a.shape[-1]
    half = min(16, size)
    blocks = a.reshape(*a.shape[:2], size // half, half, size // half, half)
    x = _substitute(jnp.stack([blocks[:, :, n, :, n] for n in range(size // half)], axis=2))
    while half < size:
        blocks = a.reshape(*a.shape[:2], -1, 2, half, size // (2 * half), 2, half)
        corners = jnp.stack([blocks[:, :, n, 1, :, n, 0] for n in range(size // (2 * half))], axis=2)
        upper, lower = x[:, :, 0::2], x[:, :, 1::2]
        corner = -_dot("nmbij,nmbjk,nmbkl->nmbil", lower, corners, upper)
        top = jnp.concatenate([upper, jnp.zeros_like(upper)], axis=-1)
        x = jnp.concatenate([top, jnp.concatenate([corner, lower], axis=-1)], axis=-2)
        half *= 2
    return x[:, :, 0]


def _substitute(a):
    """The same for small blocks [..., R, R], row by row: x[i] = e_i - sum_j a[i, j] x[j]."""
    size = a.shape[-1]
    unit = np.eye(size, dtype=a.dtype).reshape(*[1] * (a.ndim - 2), size, size)

    def row(i, x):
        below = jax.lax.dynamic_index_in_dim(a, i, axis=-2, keepdims=False)
        mine = jax.lax.dynamic_index_in_dim(jnp.asarray(unit), i, axis=-2, keepdims=False)
        solved = mine - (below[..., :, None] * x).sum(-2)
        return jax.lax.dynamic_update_index_in_dim(x, solved, i, axis=-2)

    return jax.lax.fori_loop(0, size, row, jnp.zeros_like(a))
