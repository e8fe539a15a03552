"""The TPU kernels of the gated delta rule and of gated linear attention: chunks in turn, the state on chip.

    grid (B, G, steps)          one program a head; steps of L chunks go by in turn, the last axis
                 q k v  [L C, K], [L C, K], [L C, V] of the head, its gates [L C] or [L C, K]
                   |
    chunk -> A, P [C, C], decayed q, k [C, K] -> X = (I + A)^-1 -> E, V' [C, V] -> o -> HBM
                                                   |                |
                                                   v                +--- S [K, V] float32 in VMEM, from chunk to chunk
                                                  HBM, for the backward

The backward is two kernels: one goes forward again and writes the state before each chunk, the other comes back with
the state's cotangent in VMEM. Both form the products anew; the inverse is read.

On chip, float32: the state, K V; about ten matrices of [C, K] or [C, V] and six of [C, C]; the blocks of inputs and
outputs twice, for the pipeline. At K = V = 256, C = 64, L = 4: 0.25 MiB, 1 MiB and 3.5 MiB of 16.

Floor, bytes a token and head at scalar gates in bfloat16: forward 2 (2 K + 2 V) + 4 C for the inverse; backward
2 (4 K + 3 V) + 4 C and the states, 8 K V / C. Operations a chunk forward: 4 C^2 K for q k^T and k k^T, which bfloat16
inputs do in one pass of the matrix unit; 4 C^2 V + 6 C K V, and 22 C^3 for decays and inverse, in float32, six passes.
At K = V = 128, C = 64 that is 87 MFLOP of one pass against 80 KiB: by the chips' datasheets 0.44 us against 0.10 on a
v5e, 0.19 against 0.03 on a v5p. Operations bind, and chunks of 64 rows fill half of a matrix unit of 128.

Keys and values go to widths of whole lanes, 128; where they do not have these they are padded, a copy.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from memjax.ops import decays, mesh
from memjax.ops.matrix_memory import blocks, chunks, devices
from memjax.ops.matrix_memory.blocks import Inputs, Shape

WIDEST = 256  # keys and values


def refusal(x) -> str | None:
    """Why the kernels cannot serve these `matrix_memory.Arguments`; None where they can."""
    if x.initial_state.dtype != jnp.float32:
        return f"the state is {x.initial_state.dtype}, it works in float32"
    if max(x.initial_state.shape[2:]) > WIDEST:
        return f"keys of {x.k.shape[-1]} and values of {x.v.shape[-1]}, it takes up to {WIDEST}"
    return None


def forward(*inputs, scale, interpret):
    """(o, final_state) and with a beta the inverses [N, B, G, C, C]; `inputs` as in `devices`."""
    return devices.forward(partial(_forward, scale=scale, interpret=interpret), *inputs)


def backward(*inputs, scale, interpret):
    """The gradients of all arguments but the index, None for None; `inputs` as in `devices`."""
    return devices.backward(partial(_backward, scale=scale, interpret=interpret), *inputs)


# jitted, so that a program that calls an op at one shape many times traces its kernels once
@partial(jax.jit, static_argnames=("scale", "interpret"))
def _forward(q, k, v, log_decay, beta, state, index, *, scale, interpret):
    shape, delta = blocks.shape_of(q, k, v, scale), beta is not None
    inputs = blocks.lay_out(shape, q, k, v, log_decay, beta, state, index)
    like = [mesh.like((*v.shape[:1], shape.count * shape.chunk, shape.groups * shape.values), v.dtype, *_given(inputs))]
    like += [mesh.like(inputs.state.shape, jnp.float32, *_given(inputs))]
    kinds = ["value", "state"]
    if delta:
        inverses = (shape.count, shape.batch, shape.groups, shape.chunk, shape.chunk)
        like, kinds = [*like, mesh.like(inverses, jnp.float32, *_given(inputs))], [*kinds, "inverse"]
    o, final, *inverse = _call(partial(_forward_kernel, delta), shape, inputs, (), (), like, kinds, False, interpret)
    return blocks.values(shape, o, v), final[:, :, : k.shape[-1], : v.shape[-1]], *inverse


@partial(jax.jit, static_argnames=("scale", "interpret"))
def _backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, *, scale, interpret):
    shape = blocks.shape_of(q, k, v, scale)
    inputs, delta = blocks.lay_out(shape, q, k, v, log_decay, beta, state, index), inverse is not None
    like = lambda dims, dtype=jnp.float32: mesh.like(dims, dtype, *_given(inputs))
    inverses, kinds = ([inverse], ["inverse"]) if delta else ([], [])
    states = like((shape.count, shape.batch, shape.groups, shape.keys, shape.values))
    (before,) = _call(
        partial(_rebuild_kernel, delta), shape, inputs, inverses, kinds, [states], ["states"], False, interpret
    )
    d_o = blocks.pad(shape, d_o, shape.values)
    d_final = blocks.pad_state(shape, d_final)
    time = shape.count * shape.chunk
    alone = shape.heads == shape.groups  # then nothing is summed over value heads
    wide = (shape.batch, time, shape.groups * shape.keys)
    outs = [like(wide, x.dtype if alone else jnp.float32) for x in (q, k)]
    outs += [like((shape.batch, time, shape.groups * shape.values), v.dtype), like(inputs.rows.shape)]
    outs += [like(inputs.state.shape)] + ([] if inputs.gate is None else [like(wide)])
    out_kinds = ["gate", "gate", "value", "rows", "state"] + ([] if inputs.gate is None else ["gate"])
    more, more_kinds = [*inverses, before, d_o, d_final], [*kinds, "states", "value", "state"]
    d_q, d_k, d_v, d_rows, d_state, *d_gate = _call(
        partial(_backward_kernel, delta), shape, inputs, more, more_kinds, outs, out_kinds, True, interpret
    )
    d_q, d_k = (blocks.sum_groups(shape, d, x) for d, x in ((d_q, q), (d_k, k)))
    by_token = lambda row: jnp.moveaxis(d_rows[:, :, :, row].reshape(*d_rows.shape[:2], -1), 1, 2)[:, : v.shape[1]]
    d_log_decay = None if log_decay is None else by_token(1)
    if d_gate:
        d_log_decay = blocks.values(shape, d_gate[0], log_decay)
    d_state = d_state[:, :, : k.shape[-1], : v.shape[-1]]
    return d_q, d_k, blocks.values(shape, d_v, v), d_log_decay, by_token(0) if delta else None, d_state


def _given(arrays):
    return [x for x in arrays if x is not None]


def _call(
    kernel: Callable, shape: Shape, inputs: Inputs, more, more_kinds, like, kinds, reverse: bool, interpret: Any
) -> Any:
    """Runs a kernel over the grid; it gets the `Inputs`, `more`, the results and the state in VMEM as references."""
    block, steps = blocks.specs(shape, reverse), shape.count // shape.step
    own = ("key", "key", "value", "rows", "gate", "docs", "state")
    present = [x is not None for x in inputs]
    arrays = [*_given(inputs), *more]
    names = [name for name, there in zip(own, present, strict=True) if there] + list(more_kinds)

    def body(*refs):
        refs = iter(refs)
        mine = Inputs(*(next(refs) if there else None for there in present))
        kernel(shape, mine, *refs)

    return pl.pallas_call(
        body,
        grid=(shape.batch, shape.groups, steps),
        in_specs=[block[name] for name in names],
        out_specs=[block[name] for name in kinds],
        out_shape=like,
        scratch_shapes=[pltpu.VMEM((shape.keys, shape.values), jnp.float32)],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        interpret=interpret,
    )(*arrays)


def _forward_kernel(delta, shape: Shape, inputs: Inputs, o_ref, final_ref, *refs):
    *inverse_ref, carry = refs
    _begin(carry, inputs.state)

    @_each_chunk(shape)
    def _(c):
        x = _read(shape, inputs, c, delta)
        chunk = chunks.products(*x[:4], x.docs, scale=shape.scale, narrow=shape.narrow)
        inverse = chunks.invert(chunk.a) if delta else None
        if delta:
            inverse_ref[0][c] = inverse
        state = carry[...]
        _, written = chunks.write(state, x.v, x.beta, inverse, chunk)
        o = chunks.dot(chunk.q_in, state) + chunks.dot(chunk.p, written)
        o_ref[_tokens(shape, c)] = o.astype(o_ref.dtype)
        carry[...] = chunks.next_state(state, written, chunk)

    final_ref[...] = carry[...]


def _rebuild_kernel(delta, shape: Shape, inputs: Inputs, *refs):
    *inverse_ref, before_ref, carry = refs
    _begin(carry, inputs.state)

    @_each_chunk(shape)
    def _(c):
        x = _read(shape, inputs, c, delta)
        chunk = chunks.products(*x[:4], x.docs, scale=shape.scale, narrow=shape.narrow)
        state = carry[...]
        before_ref[c] = state
        inverse = inverse_ref[0][c] if delta else None
        carry[...] = chunks.next_state(state, chunks.write(state, x.v, x.beta, inverse, chunk)[1], chunk)


def _backward_kernel(delta, shape: Shape, inputs: Inputs, *refs):
    *inverse_ref, before, d_o_ref, d_final, d_q, d_k, d_v, d_rows, d_state = refs[: 8 + delta]
    *d_gate, carry = refs[8 + delta :]
    _begin(carry, d_final)

    @_each_chunk(shape, reverse=True)
    def _(c):
        x = _read(shape, inputs, c, delta)
        chunk, pull = jax.vjp(lambda *y: chunks.products(*y, x.docs, scale=shape.scale, narrow=shape.narrow), *x[:4])
        inverse = inverse_ref[0][c] if delta else None
        at = _tokens(shape, c)
        d_o = d_o_ref[at].astype(jnp.float32)
        d_chunk, d_values, d_beta, d_before = chunks.backward(carry[...], d_o, before[c], x.v, x.beta, inverse, chunk)
        d_query, d_key, d_log_decay, d_beta_in_a = pull(d_chunk)
        d_q[at] = d_query.astype(d_q.dtype)
        d_k[at], d_v[at] = d_key.astype(d_k.dtype), d_values.astype(d_v.dtype)
        if delta:
            d_rows[c, 0:1] = d_beta + d_beta_in_a
        if d_gate:
            d_gate[0][at] = d_log_decay
        else:
            d_rows[c, 1:2] = d_log_decay
        carry[...] = d_before

    d_state[...] = carry[...]


class Chunk(NamedTuple):
    """One chunk in float32; names are those of `chunks.products`."""

    q: jax.Array
    k: jax.Array
    log_decay: jax.Array
    beta: jax.Array | None
    docs: chunks.Documents | None
    v: jax.Array


def _read(shape: Shape, inputs: Inputs, c, delta) -> Chunk:
    at = _tokens(shape, c)
    q, k, v = (ref[at].astype(jnp.float32) for ref in (inputs.q, inputs.k, inputs.v))
    log_decay = decays.finite(inputs.rows[c, 1:2] if inputs.gate is None else inputs.gate[at])
    beta = inputs.rows[c, 0:1] if delta else None
    docs = None if inputs.docs is None else chunks.Documents(inputs.docs[c, 0:1], inputs.docs[c, 1:2][:, :1])
    return Chunk(q, k, log_decay, beta, docs, v)


def _tokens(shape: Shape, c):
    """The index of chunk c's tokens in a block."""
    return pl.ds(pl.multiple_of(c * shape.chunk, shape.chunk), shape.chunk), slice(None)


def _begin(carry, state):
    """At a head's first step the carry is `state`."""

    @pl.when(pl.program_id(2) == 0)
    def _():
        carry[...] = state[...]


def _each_chunk(shape: Shape, reverse: bool = False):
    """Runs a function for the number of each chunk of the step."""

    def run(body):
        one = lambda n, _: body(shape.step - 1 - n if reverse else n)
        jax.lax.fori_loop(0, shape.step, one, None)

    return run
