"""The gated delta rule on a Hopper GPU: one block of the grid walks through the chunks of one memory and 64 columns.

                 tokens, 64 a chunk                        what a step does with a chunk (all products bfloat16 x 2)
      +-----+-----+-----+- ...                               E  = v - p (k S)       64 x 64, from K rows of S
    k | n-1 |  n  | n+1 |      loaded while n - 1 is         W  = X (beta E)        X = (I + A)^-1 of the chunk
    q |     |     |     |      worked on (two slots)         o  = p (q S) + P W
      +-----+-----+-----+- ...                               S <- keep S + k^T (r W)
      v and o: columns 64 c .. 64 c + 64, block (memory, c)

Shared memory of the forward pass, K = 128, two slots: q and k 64 KiB, v 16, P and X in two parts 64, the parts of S
32, those of W and r W 32, o 8, gates 7; 223 of 227 KiB. K = 256 loads one chunk at a time: 214. Under a gate a channel
q and the two forms of k come decayed and in parts, 96 KiB a chunk at K = 128: 214. float32 inputs come in two parts:
q and k 64 KiB a chunk at K = 128, all 182; K = 192 with both of them in float32 no longer fits, nor K = 256 with one
(`hopper.refusal` counts). Registers: K / 64 blocks of S, 32 a thread each: 168 in all at K = 128, 255 at K = 256.

Floor of the forward pass a token and head: 4 K + 8 C bytes a column block and 4 V for v and o; 12 V (K + C) FLOPs on
the tensor cores. At K = V = 128: 2.5 KiB and 295 kFLOP, 115 FLOP a byte where the card turns at 206. Each chunk waits
for the one before, five products deep, so few memories are bound by latency, not by this floor.

The backward has no floor of its own yet: `rebuild` and `reverse` walk once each and store the states and their
cotangents, 8 K V / 64 bytes a token and head together, and E, W and dR in parts, 12 V; what works on all chunks at a
time reads them back, once for V and once for each 64 key channels.

P and X come from a kernel of their own, and so do the gradients through them (`hopper.pairs`: all chunks at a time).
Those under a gate a channel are `hopper.channels`, which also gives q and k decayed to the borders of a chunk.
"""

from functools import partial

from memjax.ops import hopper
from memjax.ops.hopper import backward as backward
from memjax.ops.hopper import forward as forward

refusal = partial(hopper.refusal, delta=True)
