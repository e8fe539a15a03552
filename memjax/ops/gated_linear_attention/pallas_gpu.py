"""Gated linear attention on a Hopper GPU: the frame of the gated delta rule's kernel, without the inverse.

                 tokens, 64 a chunk                        what a step does with a chunk (all products bfloat16 x 2)
      +-----+-----+-----+- ...
    k | n-1 |  n  | n+1 |      loaded while n - 1 is         o  = p (q S) + P v     64 x 64, from K rows of S
    q |     |     |     |      worked on (two slots)         S <- keep S + k^T (r v)
      +-----+-----+-----+- ...
      v and o: columns 64 c .. 64 c + 64, block (memory, c)

Shared memory of the forward pass, K = 128, two slots: q and k 64 KiB, v 16, P in two parts 32, the parts of S 32, of
r v 16, o 8, gates 7; 175 of 227 KiB. K = 256 loads one chunk at a time: 182. Under a gate a channel q and k come
decayed and in parts, twice the bytes: one chunk at a time, 150. Registers: K / 64 blocks of S, 32 a thread each.

Floor of the forward pass a token and head: 4 K + 4 C bytes a column block and 4 V for v and o; 2 V (4 K + 2 C) FLOPs on
the tensor cores. At K = V = 128: 2 KiB and 164 kFLOP. The backward has no floor of its own yet: `rebuild` and
`reverse` walk once each and store the states and their cotangents, 8 K V / 64 bytes a token and head together, which
`outer` reads back for all chunks at a time.

P comes from a kernel of its own (`hopper.pairs`: all chunks at a time); the derivatives of the gates come from XLA, and
under a gate a channel all that is inside a chunk, P before the kernels and the derivatives behind.
"""

from typing import Any

from memjax.ops import hopper, mesh


def refusal(x: Any) -> str | None:
    """Why the kernel cannot serve these `matrix_memory.Arguments`, None where it can."""
    return hopper.refusal(*x[:4])


def forward(q, k, v, log_decay, state, index, *, scale, interpret):
    """The recurrence over a sequence.

    Args:
        q, k: [B, T, H, K] bfloat16.    v: [B, T, G, V] bfloat16.    log_decay: None, [B, T, G] or [B, T, G, K] float32.
        state: [B, G, K, V] float32.    index: [B, T] number of a token's document, or None. Padding has k = 0 and no
            decay.
        scale: factor on q.    interpret: simulate the GPU on the CPU.

    Returns o as v, and the final state.
    """
    from memjax.ops.hopper import op

    def kernel(q, k, v, log_decay, state, index):
        return op.forward(q, k, v, log_decay, None, state, index, scale=scale, interpret=interpret)[:2]

    dims = ("b.s.", "b.s.", "b.s.", _gate(log_decay), "bs..", "b.")
    inputs, outputs = (q, k, v, log_decay, state, index), ("b.s.", "bs..")
    return mesh.kernel_on_each(kernel, inputs, dims, outputs, batch=v.shape[0], split=(q.shape[2], v.shape[2]))


def backward(q, k, v, log_decay, state, index, d_o, d_final, *, scale, interpret):
    """Gradients of q, k, v, log_decay (None where it is None) and state; arguments as in `forward`, and the cotangents
    of o and of the final state."""
    from memjax.ops.hopper import op

    def kernel(q, k, v, log_decay, state, index, d_o, d_final):
        given = (q, k, v, log_decay, None, state, index, None, d_o, d_final)
        return tuple(x for x in op.backward(*given, scale=scale, interpret=interpret) if x is not None)

    gate = _gate(log_decay)
    dims = ("b.s.", "b.s.", "b.s.", gate, "bs..", "b.", "b.s.", "bs..")
    inputs = (q, k, v, log_decay, state, index, d_o, d_final)
    outputs = ("b.s.", "b.s.", "b.s.", *([] if log_decay is None else [gate]), "bs..")
    split = (q.shape[2], v.shape[2])
    d_q, d_k, d_v, *d_gate, d_state = mesh.kernel_on_each(kernel, inputs, dims, outputs, batch=v.shape[0], split=split)
    return d_q, d_k, d_v, *(d_gate or [None]), d_state


def _gate(log_decay):
    return "b.s." if log_decay is not None and log_decay.ndim == 4 else "b.s"
