"""The gated delta rule on a Hopper GPU: one block of the grid walks through the chunks of one memory and 64 columns.

                 tokens, 64 a chunk                        what a step does with a chunk (all products bfloat16 x 2)
      +-----+-----+-----+- ...                               E  = v - p (k S)       64 x 64, from K rows of S
    k | n-1 |  n  | n+1 |      loaded while n - 1 is         W  = X (beta E)        X = (I + A)^-1 of the chunk
    q |     |     |     |      worked on (two slots)         o  = p (q S) + P W
      +-----+-----+-----+- ...                               S <- keep S + k^T (r W)
      v and o: columns 64 c .. 64 c + 64, block (memory, c)

Shared memory of the forward pass, K = 128, two slots: q and k 64 KiB, v 16, P and X in two parts 64, the parts of S
32, those of W and r W 32, o 8, gates 7; 223 of 227 KiB. K = 256 loads one chunk at a time: 214. Under a gate a channel
q and the two forms of k come decayed and in parts, 96 KiB a chunk at K = 128: 214. Registers: K / 64 blocks of S, 32 a
thread each; at K = 128 next to nothing is spilled, at K = 256 about 1 KiB a thread.

Floor of the forward pass a token and head: 4 K + 8 C bytes a column block and 4 V for v and o; 12 V (K + C) FLOPs on
the tensor cores. At K = V = 128: 2.5 KiB and 295 kFLOP, 115 FLOP a byte where the card turns at 206. Each chunk waits
for the one before, five products deep, so few memories are bound by latency, not by this floor.

The backward has no floor of its own yet: `rebuild` and `reverse` walk once each and store the states and their
cotangents, 8 K V / 64 bytes a token and head together, and E, W and dR in parts, 12 V; `inner` and `outer` read them
back, once for V and once for each 64 key channels, and work on all chunks at a time.

P and X come from a kernel of their own (`hopper.pairs`: all chunks at a time); the derivatives of the gates come from
XLA, and under a gate a channel all that is inside a chunk, A, P and X before the kernels and the derivatives behind.
"""

from functools import partial
from typing import Any

from memjax.ops import hopper, mesh


def refusal(x: Any) -> str | None:
    """Why the kernel cannot serve these `matrix_memory.Arguments`, None where it can."""
    return hopper.refusal(*x[:4])


def forward(q, k, v, log_decay, beta, state, index, *, scale, interpret):
    """The rule over a sequence.

    Args:
        q, k: [B, T, H, K] bfloat16.    v: [B, T, G, V] bfloat16.    log_decay: None, [B, T, G] or [B, T, G, K] float32.
        beta: [B, T, G] float32.    state: [B, G, K, V] float32.
        index: [B, T] number of a token's document, or None. Padding has k = 0 and no decay.
        scale: factor on q.    interpret: simulate the GPU on the CPU.

    Returns o as v, the final state, and the inverse [N, B, G, C, C] that `backward` takes.
    """
    from memjax.ops.hopper import op

    kernel = partial(op.forward, scale=scale, interpret=interpret)
    dims = ("b.s.", "b.s.", "b.s.", _gate(log_decay), "b.s", "bs..", "b.")
    inputs = (q, k, v, log_decay, beta, state, index)
    outputs = ("b.s.", "bs..", ".bs..")
    return mesh.kernel_on_each(kernel, inputs, dims, outputs, batch=v.shape[0], split=(q.shape[2], v.shape[2]))


def backward(q, k, v, log_decay, beta, state, index, inverse, d_o, d_final, *, scale, interpret):
    """Gradients of q, k, v, log_decay (None where it is None), beta and state; arguments as in `forward`, what it
    returned as the inverse, and the cotangents of o and of the final state."""
    from memjax.ops.hopper import op

    def kernel(*inputs):
        gradients = op.backward(*inputs, scale=scale, interpret=interpret)
        return tuple(x for x in gradients if x is not None)

    gate = _gate(log_decay)
    dims = ("b.s.", "b.s.", "b.s.", gate, "b.s", "bs..", "b.", ".bs..", "b.s.", "bs..")
    inputs = (q, k, v, log_decay, beta, state, index, inverse, d_o, d_final)
    outputs = ("b.s.", "b.s.", "b.s.", *([] if log_decay is None else [gate]), "b.s", "bs..")
    split = (q.shape[2], v.shape[2])
    d_q, d_k, d_v, *d_gate, d_beta, d_state = mesh.kernel_on_each(
        kernel, inputs, dims, outputs, batch=v.shape[0], split=split
    )
    return d_q, d_k, d_v, *(d_gate or [None]), d_beta, d_state


def _gate(log_decay):
    return "b.s." if log_decay is not None and log_decay.ndim == 4 else "b.s"
