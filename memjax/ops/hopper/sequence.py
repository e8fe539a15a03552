"""The kernels that go through the chunks in sequence: `forward`, `rebuild` (for the backward) and `reverse`."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from memjax.ops.hopper import frame
from memjax.ops.hopper.frame import BETA, QUERY, READ, WRITE, Chunks
from memjax.ops.hopper.tiles import MATRIX, ROWS, product, put, read, scale_rows, total, transposed, zeros

_array = jax.ShapeDtypeStruct
_Shapes = dict[str, tuple[int, ...]]
_TILE = (2, ROWS, ROWS)


def forward(
    chunks: Chunks, v: jax.Array, state: jax.Array, *, wide: bool, interpret: Any
) -> tuple[jax.Array, jax.Array]:
    """o [B, T, G, V], float32 if `wide` and else bfloat16, and the state behind the last chunk.

    Args:
        v: [1 or 2, B, T, G, V].
        state: [B, G, K, V] float32.
    """
    (inputs, own), delta = _of_forward(chunks, v, wide), chunks.x is not None

    def body(walk, own, others, outputs):
        (first,), (o, final) = others, outputs
        at = frame.block(v.shape[3], chunks.q.shape[3])

        def step(n, chunk, state):
            if delta:
                written = _written(chunk, _error(chunk, own["state"]), own["scaled"])
                put(own["write"], written)
            else:
                written = total(chunk["v"])
            _scale(chunk, WRITE, written, own["scaled"])
            inside = own["write"] if delta else chunk["v"]
            before = scale_rows(chunk["rows"].at[0, QUERY], product((chunk["q"], own["state"])))
            read_out = before + product((chunk["p"], inside))
            if wide:
                at.values(o, n, 0)[...] = read_out
            else:
                frame.send(own["o"], read_out, partial(at.values, o, n))
            return _next(chunk, state, own)

        _save(walk(step, _start(first, at, own), at), final, at)

    out_type = (
        _array((1, *v.shape[1:]), jnp.float32 if wide else jnp.bfloat16),
        _array(state.shape, jnp.float32),
    )
    o, final = _call(body, inputs, [state], out_type, own, v, interpret)
    return o[0], final


def rebuild(chunks: Chunks, v: jax.Array, state: jax.Array, *, interpret: Any) -> tuple[jax.Array, ...]:
    """The states before the chunks [2, B, G, N, K, V], and of the delta rule what the memory gets wrong (E) and what
    is written (W), [2, B, T, G, V], all in parts. Arguments as in `forward`."""
    (inputs, own), delta = _of_rebuild(chunks, v), chunks.x is not None

    def body(walk, own, others, outputs):
        at = frame.block(v.shape[3], chunks.q.shape[3])

        def step(n, chunk, state):
            frame.store(own["state"], partial(at.state, outputs[0], n))
            if delta:
                error = _error(chunk, own["state"])
                put(own["error"], error)
                written = _written(chunk, error, own["scaled"])
                put(own["write"], written)
            else:
                written = total(chunk["v"])
            _scale(chunk, WRITE, written, own["scaled"])
            plgpu.wait_smem_to_gmem(0, wait_read_only=True)  # the buffer of the state is free again
            state = _next(chunk, state, own)
            for name, output in zip(("error", "write"), outputs[1:], strict=False):
                frame.store(own[name], partial(at.values, output, n))
            return state

        walk(step, _start(others[0], at, own), at)

    out_type = [_states(chunks, v)] + [_array((2, *v.shape[1:]), jnp.bfloat16)] * (2 * delta)
    return _call(body, inputs, [state], out_type, own, v, interpret)


def reverse(chunks: Chunks, d_o: jax.Array, d_final: jax.Array, *, interpret: Any) -> tuple[jax.Array, ...]:
    """Cotangents of the states behind the chunks [2, B, G, N, K, V] and of R = beta E (linear attention: of the
    values) [2, B, T, G, V], in parts, and of the first state.

    Args:
        d_o: [1 or 2, B, T, G, V].
        d_final: [B, G, K, V] float32.
    """
    (inputs, own), delta = _of_reverse(chunks, d_o), chunks.x is not None

    def body(walk, own, others, outputs):
        (last,), (d_states, d_values, d_state) = others, outputs
        at = frame.block(d_o.shape[3], chunks.q.shape[3])

        def step(n, chunk, d_next):
            frame.store(own["state"], partial(at.state, d_states, n))
            write = chunk.get("k_out", chunk["k_in"])
            d_written = scale_rows(chunk["rows"].at[0, WRITE], product((write, own["state"])))
            d_written += product((transposed(chunk["p"]), chunk["d_o"]))
            if delta:
                put(own["scaled"], d_written)
                plgpu.commit_smem()
                d_written = product((transposed(chunk["x"]), own["scaled"]))
            frame.send(own["values"], d_written, partial(at.values, d_values, n))
            return _previous(chunk, d_next, d_written, own, delta)

        _save(walk(step, _start(last, at, own), at, reverse=True), d_state, at)

    out_type = (
        _states(chunks, d_o),
        _array((2, *d_o.shape[1:]), jnp.bfloat16),
        _array(d_final.shape, jnp.float32),
    )
    return _call(body, inputs, [d_final], out_type, own, d_o, interpret)


def shared_bytes(chunks: Chunks, v: frame.Shaped) -> int:
    """Shared memory that the largest of the three takes with one chunk loaded at a time, for v in the parts that it and
    d_o come in; shapes serve as well as arrays."""
    narrow = partial(_of_forward, wide=v.shape[0] > 1)
    return max(frame.shared_bytes(*of(chunks, v), 1) for of in (narrow, _of_rebuild, _of_reverse))


def _of_forward(chunks, v, wide):
    """What it loads, and the buffers that it works in."""
    inputs = _inputs(chunks) | {"v": frame.values(v), "q": frame.keys(chunks.q), "p": frame.matrix(chunks.p)}
    own: _Shapes = {"write": _TILE} if chunks.x is not None else {}
    own |= {} if wide else {"o": (1, ROWS, ROWS)}
    return inputs, own | _own(chunks)


def _of_rebuild(chunks, v):
    own: _Shapes = {"error": _TILE, "write": _TILE} if chunks.x is not None else {}
    return _inputs(chunks) | {"v": frame.values(v)}, own | _own(chunks)


def _of_reverse(chunks, d_o):
    inputs = _inputs(chunks) | {"d_o": frame.values(d_o), "q": frame.keys(chunks.q), "p": frame.matrix(chunks.p)}
    own: _Shapes = {"values": _TILE}
    return inputs, own | _own(chunks)


def _own(chunks) -> _Shapes:
    """What all three work in."""
    return {"state": (2, chunks.keep.shape[-1], ROWS), "scaled": _TILE}


def _inputs(chunks):
    """What all three load."""
    inputs = {"k_in": frame.keys(chunks.k_in), "rows": frame.vector(chunks.rows), "keep": frame.vector(chunks.keep)}
    inputs |= {} if chunks.k_out is None else {"k_out": frame.keys(chunks.k_out)}
    return inputs | ({} if chunks.x is None else {"x": frame.matrix(chunks.x)})


def _call(body, inputs, others, out_type, own, v, interpret):
    _, batch, time, groups, columns = v.shape
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
    return total(chunk["v"]) - scale_rows(chunk["rows"].at[0, READ], product((chunk["k_in"], state)))


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
    _scale(chunk, QUERY, total(chunk["d_o"]), own["scaled"])
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
