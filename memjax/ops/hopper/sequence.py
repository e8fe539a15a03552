"""The kernels that go through the chunks in sequence: `forward`, `rebuild` (for the backward) and `reverse`."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from memjax.ops.hopper import frame
from memjax.ops.hopper.frame import BETA, QUERY, READ, WRITE, Chunks
from memjax.ops.hopper.tiles import MATRIX, ROWS, load, product, put, read, scale_rows, transposed, zeros

_array = jax.ShapeDtypeStruct


def forward(chunks: Chunks, v: jax.Array, state: jax.Array, *, interpret: Any) -> tuple[jax.Array, jax.Array]:
    """o [B, T, G, V] and the state behind the last chunk.

    Args:
        v: [B, T, G, V] bfloat16.
        state: [B, G, K, V] float32.
    """
    delta = chunks.x is not None
    inputs = _inputs(chunks) | {"v": frame.values(v[None]), "q": frame.keys(chunks.q), "p": frame.matrix(chunks.p)}
    keys = state.shape[-2]
    own = {"state": (2, keys, ROWS), "scaled": (2, ROWS, ROWS), "o": (1, ROWS, ROWS)}
    own |= {"write": (2, ROWS, ROWS)} if delta else {}

    def body(walk, own, others, outputs):
        (first,), (o, final) = others, outputs
        at = frame.block(v.shape[2], chunks.q.shape[3])

        def step(n, chunk, state):
            if delta:
                written = _written(chunk, _error(chunk, own["state"]), own["scaled"])
                put(own["write"], written)
            else:
                written = load(chunk["v"].at[0])
            _scale(chunk, WRITE, written, own["scaled"])
            inside = own["write"] if delta else chunk["v"]
            before = scale_rows(chunk["rows"].at[0, QUERY], product((chunk["q"], own["state"])))
            own["o"][0] = (before + product((chunk["p"], inside))).astype(jnp.bfloat16)
            plgpu.commit_smem()
            frame.store(own["o"], partial(at.values, o, n))
            return _next(chunk, state, own)

        _save(walk(step, _start(first, at, own), at), final, at)

    out_type = (_array((1, *v.shape), jnp.bfloat16), _array(state.shape, jnp.float32))
    o, final = _call(body, inputs, [state], out_type, own, v, interpret)
    return o[0], final


def rebuild(chunks: Chunks, v: jax.Array, state: jax.Array, *, interpret: Any) -> tuple[jax.Array, ...]:
    """The states before the chunks [2, B, G, N, K, V], and of the delta rule what the memory gets wrong (E) and what
    is written (W), [2, B, T, G, V], all in parts. Arguments as in `forward`."""
    delta = chunks.x is not None
    inputs = _inputs(chunks) | {"v": frame.values(v[None])}
    keys = state.shape[-2]
    own = {"state": (2, keys, ROWS), "scaled": (2, ROWS, ROWS)}
    own |= {name: (2, ROWS, ROWS) for name in ("error", "write") if delta}

    def body(walk, own, others, outputs):
        at = frame.block(v.shape[2], chunks.q.shape[3])

        def step(n, chunk, state):
            frame.store(own["state"], partial(at.state, outputs[0], n))
            if delta:
                error = _error(chunk, own["state"])
                put(own["error"], error)
                written = _written(chunk, error, own["scaled"])
                put(own["write"], written)
            else:
                written = load(chunk["v"].at[0])
            _scale(chunk, WRITE, written, own["scaled"])
            plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # the buffer of the state is free again
            state = _next(chunk, state, own)
            for name, output in zip(("error", "write"), outputs[1:], strict=False):
                frame.store(own[name], partial(at.values, output, n))
            return state

        walk(step, _start(others[0], at, own), at)

    out_type = [_states(chunks, v)] + [_array((2, *v.shape), jnp.bfloat16)] * (2 * delta)
    return _call(body, inputs, [state], out_type, own, v, interpret)


def reverse(chunks: Chunks, d_o: jax.Array, d_final: jax.Array, *, interpret: Any) -> tuple[jax.Array, ...]:
    """Cotangents of the states behind the chunks [2, B, G, N, K, V] and of R = beta E (linear attention: of the
    values) [2, B, T, G, V], in parts, and of the first state.

    Args:
        d_o: [B, T, G, V] bfloat16.
        d_final: [B, G, K, V] float32.
    """
    delta = chunks.x is not None
    inputs = _inputs(chunks) | {"d_o": frame.values(d_o[None]), "q": frame.keys(chunks.q), "p": frame.matrix(chunks.p)}
    keys = d_final.shape[-2]
    own = {"state": (2, keys, ROWS), "values": (2, ROWS, ROWS), "scaled": (2, ROWS, ROWS)}

    def body(walk, own, others, outputs):
        (last,), (d_states, d_values, d_state) = others, outputs
        at = frame.block(d_o.shape[2], chunks.q.shape[3])

        def step(n, chunk, d_next):
            frame.store(own["state"], partial(at.state, d_states, n))
            write = chunk.get("k_out", chunk["k_in"])
            d_written = scale_rows(chunk["rows"].at[0, WRITE], product((write, own["state"])))
            d_written += product((transposed(chunk["p"]), chunk["d_o"]))
            if delta:
                put(own["scaled"], d_written)
                plgpu.commit_smem()
                d_written = product((transposed(chunk["x"]), own["scaled"]))
            put(own["values"], d_written)
            plgpu.commit_smem()
            frame.store(own["values"], partial(at.values, d_values, n))
            return _previous(chunk, d_next, d_written, own, delta)

        _save(walk(step, _start(last, at, own), at, reverse=True), d_state, at)

    out_type = (
        _states(chunks, d_o),
        _array((2, *d_o.shape), jnp.bfloat16),
        _array(d_final.shape, jnp.float32),
    )
    return _call(body, inputs, [d_final], out_type, own, d_o, interpret)


def _inputs(chunks):
    """What all three load."""
    inputs = {"k_in": frame.keys(chunks.k_in), "rows": frame.vector(chunks.rows), "keep": frame.vector(chunks.keep)}
    inputs |= {} if chunks.k_out is None else {"k_out": frame.keys(chunks.k_out)}
    return inputs | ({} if chunks.x is None else {"x": frame.matrix(chunks.x)})


def _call(body, inputs, others, out_type, own, v, interpret):
    batch, time, groups, columns = v.shape
    grid = {"memory": batch * groups, "column": columns // ROWS}
    return frame.call(body, inputs, others, out_type, own, grid=grid, count=time // ROWS, interpret=interpret)


def _states(chunks, v):
    return _array((2, *chunks.keep.shape, v.shape[-1]), jnp.bfloat16)


def _start(first, at, own):
    """The blocks of a state, of which also the parts are put. A sum, because the type of what is read from global
    memory names the manual axes of a `jax.shard_map`, which a loop cannot carry; that of a sum in a kernel does not."""

    def block(rows):
        block = zeros() + read(first.at[at.batch, at.group, rows, at.columns], MATRIX, optimized=False)
        put(own["state"].at[:, rows], block)
        return block

    return tuple(block(pl.ds(i, ROWS)) for i in range(0, own["state"].shape[1], ROWS))


def _save(state, final, at):
    for i, block in enumerate(state):
        final[at.batch, at.group, pl.ds(i * ROWS, ROWS), at.columns] = block


def _error(chunk, state):
    return load(chunk["v"].at[0]) - scale_rows(chunk["rows"].at[0, READ], product((chunk["k_in"], state)))


def _written(chunk, error, buffer):
    _scale(chunk, BETA, error, buffer)
    return product((chunk["x"], buffer))


def _scale(chunk, row, x, buffer):
    """Makes the parts of x, with its rows scaled, an operand, and with them all that was put before."""
    put(buffer, scale_rows(chunk["rows"].at[0, row], x))
    plgpu.commit_smem()


def _next(chunk, state, own):
    """The state behind the chunk, from the parts of what is written."""
    return _update(chunk, state, [(chunk.get("k_out", chunk["k_in"]), own["scaled"])], own)


def _previous(chunk, d_next, d_written, own, delta):
    """The cotangent of the state before the chunk; d_written is that of R = beta E where there is an inverse."""
    _scale(chunk, QUERY, load(chunk["d_o"].at[0]), own["scaled"])
    terms = [(chunk["q"], own["scaled"])]
    plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # the buffers that the step stored are free again
    if delta:
        _scale(chunk, READ, -scale_rows(chunk["rows"].at[0, BETA], d_written), own["values"])
        terms += [(chunk["k_in"], own["values"])]
    return _update(chunk, d_next, terms, own)


def _update(chunk, state, terms, own):
    """keep S + the sum of the terms keys^T values; its parts are put as well. Putting ends a block before the products
    of the next begin: else the assembler moves these forward, and their sums all take registers at once."""

    def block(i, s):
        rows = pl.ds(i * ROWS, ROWS)
        added = product(*((transposed(keys.at[:, :, rows]), values) for keys, values in terms))
        s = scale_rows(chunk["keep"].at[0, rows], s) + added
        put(own["state"].at[:, rows], s)
        return s

    return tuple(block(i, s) for i, s in enumerate(state))
