"""Gated linear attention on a Hopper GPU: the frame of the gated delta rule's kernel, without the inverse.

                 tokens, 64 a chunk                        what a step does with a chunk (all products bfloat16 x 2)
      +-----+-----+-----+- ...
    k | n-1 |  n  | n+1 |      loaded while n - 1 is         o  = p (q S) + P v     64 x 64, from K rows of S
    q |     |     |     |      worked on (two slots)         S <- keep S + k^T (r v)
      +-----+-----+-----+- ...
      v and o: columns 64 c .. 64 c + 64, block (memory, c)

Shared memory of the forward pass, K = 128, two slots: q and k 64 KiB, v 16, P in two parts 32, the parts of S 32, of
r v 16, o 8, gates 7; 175 of 227 KiB. K = 256 loads one chunk at a time: 182. Under a gate a channel q and k come
decayed and in parts, twice the bytes: one chunk at a time, 150; so do float32 q, k and v, where the backward takes 166.
K = 256 leaves room for one of q and k in float32, the other and v in bfloat16. More channels than fit are pieces, each
a memory of its own (`hopper.pieces`). Registers: K / 64 blocks of S, 32 a thread each.

Floor of the forward pass a token and head: 4 K + 4 C bytes a column block and 4 V for v and o; 2 V (4 K + 2 C) FLOPs on
the tensor cores. At K = V = 128: 2 KiB and 164 kFLOP. The backward has no floor of its own yet: `rebuild` and
`reverse` walk once each and store the states and their cotangents, 8 K V / 64 bytes a token and head together, which
`outer` reads back for all chunks at a time.

P comes from a kernel of its own, and so does the gradient through it (`hopper.pairs`: all chunks at a time). Those
under a gate a channel are `hopper.channels`, which also gives q and k decayed to the borders of a chunk.
"""

from functools import partial

from memjax.ops import hopper
from memjax.ops.matrix_memory import devices

refusal = partial(hopper.refusal, delta=False)
forward, backward = devices.without_beta(hopper.forward, hopper.backward)
