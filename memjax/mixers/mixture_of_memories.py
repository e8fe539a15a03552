"""Mixture-of-Memories (Du, Sun, Lan et al., 2025, arXiv 2502.13685).

M independent memories; a router sends each token to k of them, and a shared one sees all tokens:

    p = softmax(W_r x);   the k largest, w = p / sum of these            q = W_q x
    k_m, v_m, beta_m, g_m = projections of x that belong to memory m     for the k memories of the token
    S_m <- rule(S_m; k_m, v_m, beta_m, g_m)                              the other memories neither decay nor write
    o = sum_m w_m S_m^T q / sqrt(K) + S_s^T q / sqrt(K)                  y = W_o (RMSNorm(o) * silu(W_g x))

    paper            here                         shape
    M_t^m            state.memory                 [B, M, H, K, V]
    shared           state.shared                 [B, H, K, V], None where `shared` is False
    W_g (router)     router                       [D, M]
    W_k^m, W_v^m     own.key, own.value           [S, D, H K], [S, D, H V] with the S = M + 1 memories, the shared one
                                                  last; one matrix for all with `shared_projections`

The rule is that of Gated DeltaNet by default (its equations: gated_delta_net.py); `rule` has others. q, k and v pass a
short convolution with SiLU, as in that layer. The paper's equations have no convolution; its code convolves the tokens
of each memory, one after the other, which is `conv_on="memory"` here. `conv_on="sequence"` convolves the layer's input
before it is routed, so that a memory's keys know the token's neighbours in the text.

Where we differ from the paper's code: neither the convolution nor the state passes from one memory's tokens to the
next one's, in training as in decoding, and padding goes nowhere. The shared memory is one more memory that every token
goes to with weight 1: a single stream of tokens sorted by memory (`memjax.ops.routing`) serves all.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from memjax.layers import Linear, RMSNorm, ShortConv, gate_log_decay, gate_step, init_decay_gate, l2_normalize
from memjax.layers.linear import rows_times
from memjax.ops import gated_delta_rule, gated_linear_attention, routing, segments
from memjax.ops.gated_delta_rule import Implementation
from memjax.ops.gated_delta_rule import over_stream as delta_over_stream
from memjax.ops.gated_linear_attention import over_stream as linear_over_stream
from memjax.types import MixerConfig, MixerOutput

Rule = Literal["gated_delta_net", "gla", "mamba2", "linear_attention"]
_GATE_NORMALIZER = 16.0  # GLA's tau: its log-sigmoid is divided by it


class MixtureOfMemoriesState(NamedTuple):
    """Attributes:
    memory: [B, M, H, K, V] float32.
    conv: what the convolution needs of the past, float32: the last W-1 tokens of each memory [B, M, W-1, q k v], or
        with conv_on="sequence" the last W-1 inputs [B, W-1, D].
    shared, shared_conv: the same of the shared memory, [B, H, K, V] and [B, W-1, q k v]; None where there is none.
    """

    memory: Float[Array, "B M H K V"]
    conv: Float[Array, "B M P F"] | Float[Array, "B P D"]
    shared: Float[Array, "B H K V"] | None
    shared_conv: Float[Array, "B P F"] | None


@dataclasses.dataclass(frozen=True)
class MixtureOfMemoriesConfig(MixerConfig):
    """Configuration of `MixtureOfMemories`; four memories, two a token and a shared one are the paper's."""

    memories: int = 4
    """Memories that tokens are routed to, M."""
    topk: int = 2
    """Memories of a token, k."""
    shared: bool = True
    """A further memory that sees every token."""
    rule: Rule = "gated_delta_net"
    """How a memory is written: "gated_delta_net"; "gla" (a gate a key channel, arXiv 2312.06635); "mamba2" (a gate a
    head that scales the key by its step, arXiv 2405.21060); "linear_attention" (a plain sum)."""
    heads: int = 4
    """Heads H of each memory."""
    head_dim: int | None = None
    """Key channels of a head, K; None takes 3/4 of the width over `heads`."""
    expand_v: float = 1.0
    """Value channels of a head over its key channels, V / K."""
    conv_width: int = 4
    """Tokens that the short convolution sees, W, at most 16."""
    conv_on: Literal["memory", "sequence"] = "memory"
    """What the convolution acts on: each memory's own tokens (the paper's code), or the layer's input before routing
    (the paper's equations have none)."""
    shared_projections: bool = False
    """One set of key, value, beta and decay projections for all memories, the paper's lighter variant."""
    gate_rank: int = 16
    """Rank of the decay's projection under rule="gla"."""
    negative_eigenvalues: bool = False
    """beta in [0, 2] instead of [0, 1] under rule="gated_delta_net" (arXiv 2411.12537)."""
    balance_weight: float = 0.01
    """Weight of the auxiliary loss M sum_m f_m P_m of this layer (f_m: the share of tokens that memory m gets, P_m: its
    mean probability), which is `topk` times the weight when balanced. The paper's best is 0.001."""
    norm_epsilon: float = 1e-6
    """Epsilon of the output's RMSNorm."""
    dispatch: Literal["packed", "dense"] = "packed"
    """"packed" feeds a memory the tokens that were routed to it; "dense" shows every memory all tokens, masked: M / k
    times the work, kept as the reference."""
    implementation: Implementation | None = None
    """Implementation of the memory's op where it sees whole sequences (decoding, "dense"); None chooses."""

    def make(self, width: int, *, rngs: nnx.Rngs) -> "MixtureOfMemories":
        return MixtureOfMemories(self, width, rngs=rngs)


class OwnProjections(nnx.Module):
    """A layer's projections of the input to what S memories write, kernels [S, D, size].

    `beta` is there under the delta rule, `decay` unless the memory is a plain sum, `decay_up` [S, R, H K] with GLA's
    gate.
    """

    def __init__(self, config: MixtureOfMemoriesConfig, memories: int, width: int, sizes, *, rngs: nnx.Rngs):
        keys, values = sizes
        stack = lambda *shape: nnx.Param(jnp.stack([Linear(*shape, rngs=rngs).kernel[...] for _ in range(memories)]))
        self.key, self.value = stack(width, keys), stack(width, values)
        self.beta = stack(width, config.heads) if config.rule == "gated_delta_net" else None
        ranks = {"gla": config.gate_rank, "linear_attention": 0}
        rank = ranks.get(config.rule, config.heads)
        self.decay = stack(width, rank) if rank else None
        self.decay_up = stack(rank, keys) if config.rule == "gla" else None

    def joint(self, pick) -> Float[Array, "... D F"]:
        """Key, value, beta and decay side by side, for one product; `pick` takes of each the memories that matter."""
        parts = (self.key, self.value, self.beta, self.decay)
        return jnp.concatenate([pick(part[...]) for part in parts if part is not None], axis=-1)


class MixtureOfMemories(nnx.Module):
    """The mixer; see the head of this file for its equations."""

    def __init__(self, config: MixtureOfMemoriesConfig, width: int, *, rngs: nnx.Rngs):
        if not 1 <= config.topk <= config.memories:
            raise ValueError(f"MixtureOfMemories: topk={config.topk} must lie in 1 .. memories={config.memories}")
        if not 1 <= config.conv_width <= 16:
            raise ValueError(f"MixtureOfMemories: conv_width={config.conv_width} must lie in 1 .. 16")
        self.config = config
        self.heads = config.heads
        self.head_dim = config.head_dim or max(1, 3 * width // (4 * config.heads))
        self.value_dim = max(1, round(self.head_dim * config.expand_v))
        self.slots = config.memories + config.shared
        keys, values = self.heads * self.head_dim, self.heads * self.value_dim
        self.router = Linear(width, config.memories, rngs=rngs)
        self.query = Linear(width, keys, rngs=rngs)
        own = 1 if config.shared_projections else self.slots
        self.own = OwnProjections(config, own, width, (keys, values), rngs=rngs)
        self.gate = Linear(width, values, rngs=rngs)
        self.output = Linear(values, width, rngs=rngs)
        if config.conv_on == "memory":
            self.conv = ShortConv(config.conv_width, 2 * keys + values, rngs=rngs)
        else:
            self.conv = ShortConv(config.conv_width, width, rngs=rngs, activation=None)
        self.norm = RMSNorm(self.value_dim, epsilon=config.norm_epsilon)
        gated = config.rule in ("gated_delta_net", "mamba2")
        gate = init_decay_gate(rngs.params(), self.heads)
        self.A_log, self.dt_bias = (nnx.Param(x) if gated else None for x in gate)

    def init_state(self, batch_size: int) -> MixtureOfMemoriesState:
        config, reach = self.config, self.config.conv_width - 1
        channels = self.conv.kernel.shape[1]
        zeros = lambda *shape: jnp.zeros((batch_size, *shape), jnp.float32)
        matrix, by_memory = (self.heads, self.head_dim, self.value_dim), config.conv_on == "memory"
        return MixtureOfMemoriesState(
            zeros(config.memories, *matrix),
            zeros(config.memories, reach, channels) if by_memory else zeros(reach, channels),
            zeros(*matrix) if config.shared else None,
            zeros(reach, channels) if config.shared and by_memory else None,
        )

    def flops_per_token(self, time: int) -> float:
        """Multiply-adds counted twice, per token: the memories it is routed to and their projections."""
        active = self.config.topk + self.config.shared
        own = sum(leaf.size // leaf.shape[0] for leaf in jax.tree.leaves(nnx.state(self.own)))
        return active * (6.0 * self.heads * self.head_dim * self.value_dim + 2.0 * own)

    def route(
        self, x: Float[Array, "B T D"]
    ) -> tuple[Float[Array, "B T M"], Int[Array, "B T k"], Float[Array, "B T k"]]:
        """The router's probabilities, the memories of each token, best first, and their weights, in float32.

        Chosen by logits, whose order stays where probabilities underflow; a softmax of the best is p / sum of these.
        """
        logits = rows_times(x.astype(jnp.float32), self.router.kernel[...], precision="highest")
        best, choice = jax.lax.top_k(logits, self.config.topk)
        return jax.nn.softmax(logits), choice, jax.nn.softmax(best)

    def __call__(self, x, state=None, *, segment_ids=None, key=None) -> MixerOutput:
        state = self.init_state(x.shape[0]) if state is None else state
        docs = None if segment_ids is None else segments.documents(segment_ids)
        probabilities, choice, weights = self.route(x)
        aux = self._balance(probabilities, choice, docs)
        if self.config.shared:  # the last memory, which every token goes to with weight 1
            last = ((0, 0), (0, 0), (0, 1))
            choice = jnp.pad(choice, last, constant_values=self.config.memories)
            weights = jnp.pad(weights, last, constant_values=1)
        source = x
        if self.config.conv_on == "sequence":
            source, conv = self.conv(x, state.conv, segment_ids)
            state = state._replace(conv=conv)
        whole = self._packed if self.config.dispatch == "packed" else self._dense
        run = self._decode if x.shape[1] == 1 else whole
        o, state = run(source, choice, weights, state, segment_ids, docs)
        gated = self.norm(o) * jax.nn.silu(self._by_head(self.gate(x)))
        return MixerOutput(self.output(gated.reshape(*x.shape[:2], -1).astype(x.dtype)), state, aux)

    def _packed(self, x, choice, weights, state, segment_ids, docs):
        """Tokens sorted by memory, [B, L, ...]; each chunk of the stream has one memory."""
        chunk = routing.chunk_size(x.shape[1], choice.shape[2], self.slots)
        stream = routing.pack(choice, self.slots, chunk, docs)
        if self.config.shared_projections:
            parts = (self.query(x), *self._project(x, lambda z, matrices: rows_times(z, matrices[0])))
            q, kv, gates = _apart(routing.to_stream(jnp.concatenate(parts, -1), stream), parts)
        else:
            parts = (self.query(x), x)
            q, own = _apart(routing.to_stream(jnp.concatenate(parts, -1), stream), parts)
            kv, gates = self._project(own, lambda z, matrices: routing.times_own(z, matrices, stream))
        split = jnp.concatenate([q, kv], axis=-1)
        if self.config.conv_on == "memory":
            past = _join(state.conv, state.shared_conv)
            ids = None if stream.index is None else stream.chunks(stream.index) + 1
            mixed, _ = self.conv(stream.chunks(split), routing.before_chunks(split, past, stream), ids)
            mixed = mixed.reshape(split.shape)
            state = self._with_conv(state, routing.after_stream(split, past, stream))
        else:
            mixed = jax.nn.silu(split)
        written, table = self._written(mixed, gates, stream.valid), _join(state.memory, state.shared)
        over_stream = linear_over_stream if self.config.rule != "gated_delta_net" else delta_over_stream
        o, table = over_stream(*written, table=table, stream=stream)
        o = routing.from_stream(o.reshape(*o.shape[:2], -1), stream)
        o = self._by_head(jnp.einsum("btj,btjv->btv", weights, o))
        return o, self._with_memory(state, table)

    def _dense(self, x, choice, weights, state, segment_ids, docs):
        """Every memory sees all tokens; those of other memories neither decay nor write."""
        docs = segments.one_document(*x.shape[:2]) if docs is None else docs
        q, by_memory = self.query(x), self.config.conv_on == "memory"

        def one(number, memory, past):
            mine = (choice == number) & docs.valid[..., None]
            hit = mine.any(-1)
            kv, gates = self._project(x, lambda z, matrices: rows_times(z, matrices[number % matrices.shape[0]]))
            split = jnp.concatenate([q, kv], axis=-1)
            mixed, past = self._own_conv(split, past, hit, docs) if by_memory else (jax.nn.silu(split), None)
            o, memory = self._rule(self._written(mixed, gates, hit), memory, segment_ids)
            return o * jnp.where(mine, weights, 0).sum(-1)[..., None, None], memory, past

        table = _join(state.memory, state.shared)
        past = _join(state.conv, state.shared_conv) if by_memory else None
        axes = (0, 1, 1 if by_memory else None)
        o, table, past = jax.vmap(one, axes, (0, *axes[1:]))(jnp.arange(self.slots), table, past)
        state = self._with_conv(state, past) if by_memory else state
        return o.sum(0), self._with_memory(state, table)

    def _own_conv(self, split, past, hit, docs):
        """The convolution over the tokens of one memory, pushed together, and back to their places."""
        order = jnp.argsort(~hit, axis=1, stable=True)[..., None]
        together = lambda z: jnp.take_along_axis(z, order, axis=1)
        index = together(jnp.where(hit, docs.index, 0)[..., None])[..., 0]
        past = jnp.where((index[:, 0] == 0)[:, None, None], past, 0)  # the memory's first token continues, or begins
        mixed, new = self.conv(together(split), past, jnp.where(together(hit[..., None])[..., 0], index + 1, 0))
        last = docs.index[:, -1]
        latest = jnp.where(hit, docs.index, 0).max(axis=1)
        new = jnp.where((latest == last)[:, None, None], new, 0)
        return jnp.take_along_axis(mixed, jnp.argsort(order, axis=1), axis=1), new

    def _decode(self, x, choice, weights, state, segment_ids, docs):
        """One token: of all memories only its own are read and written."""
        batch, _, active = choice.shape
        rows, own, k = jnp.arange(batch)[:, None], choice[:, 0], self.config.topk
        flat = lambda z: z.reshape(batch * active, 1, *z.shape[2:])
        by_memory = lambda z: jnp.repeat(z, active, axis=0)
        take = lambda all, shared: flat(_join(all[rows, own[:, :k]], shared))[:, 0]
        mine = lambda new: new.reshape(batch, active, *new.shape[1:])
        put = lambda all, new: all.at[rows, own[:, :k]].set(mine(new)[:, :k].astype(all.dtype))
        last = lambda new: mine(new)[:, k] if self.config.shared else None
        ids = None if segment_ids is None else by_memory(segment_ids)
        live = jnp.ones((batch * active, 1), bool) if docs is None else by_memory(docs.valid)
        kv, gates = self._project(x, *_by_choice(own % self.own.key.shape[0], self.own.key.shape[0]))
        split = flat(jnp.concatenate([jnp.broadcast_to(self.query(x), (batch, active, self._keys)), kv], axis=-1))
        if self.config.conv_on == "memory":
            mixed, past = self.conv(split, take(state.conv, state.shared_conv), ids)
            state = state._replace(conv=put(state.conv, past), shared_conv=last(past))
        else:
            mixed = jax.nn.silu(split)
        o, memory = self._rule(self._written(mixed, flat(gates), live), take(state.memory, state.shared), ids)
        o = jnp.einsum("bj,bjhv->bhv", weights[:, 0], o.reshape(batch, active, self.heads, -1))[:, None]
        return o, state._replace(memory=put(state.memory, memory), shared=last(memory))

    def _project(self, x, times, pick=lambda matrices: matrices) -> tuple[jax.Array, jax.Array]:
        """Keys and values side by side, and raw gates; `times(z, matrices)` multiplies by the own memory's matrix."""
        raw = times(x, self.own.joint(pick).astype(x.dtype))
        kv, gates = jnp.split(raw, [self._mixed - self._keys], axis=-1)
        return kv, gates if self.own.decay_up is None else times(gates, pick(self.own.decay_up[...]).astype(x.dtype))

    def _rule(self, written, memory, segment_ids):
        """The memory's op on plain sequences."""
        op = gated_delta_rule if self.config.rule == "gated_delta_net" else gated_linear_attention
        return op(*written, initial_state=memory, segment_ids=segment_ids, implementation=self.config.implementation)

    def _written(self, mixed, gates, live):
        """What tokens say to a memory, the arguments of its op: q, k, v, log_decay, and beta under the delta rule.

        From convolved q, k, v side by side and the raw gates; `live` [B, L]: which places hold a token of the memory.
        """
        config, wide = self.config, lambda z: z.astype(jnp.float32)
        kept = lambda z: jnp.where(live.reshape(*live.shape, *[1] * (z.ndim - 2)), z, 0)
        q, k, v = (self._by_head(wide(z)) for z in jnp.split(mixed, (self._keys, 2 * self._keys), axis=-1))
        if config.rule == "gla":
            return q, kept(k), v, kept(self._by_head(jax.nn.log_sigmoid(wide(gates)) / _GATE_NORMALIZER))
        if self.A_log is None or self.dt_bias is None:  # a plain sum
            return q, kept(k), v, None
        if config.rule == "mamba2":
            step, log_decay = gate_step(gates, self.A_log[...], self.dt_bias[...])
            return q, kept(step[..., None] * k), v, kept(log_decay)
        beta, decay = jnp.split(wide(gates), 2, axis=-1)
        beta = jax.nn.sigmoid(beta) * (2 if config.negative_eigenvalues else 1)
        log_decay = gate_log_decay(decay, self.A_log[...], self.dt_bias[...])
        return l2_normalize(q), kept(l2_normalize(k)), v, kept(log_decay), kept(beta)

    def _balance(self, probabilities, choice, docs):
        """The auxiliary loss and the metrics, over the tokens that are no padding."""
        memories = self.config.memories
        live = jnp.ones(choice.shape[:2]) if docs is None else docs.valid.astype(jnp.float32)
        count = jnp.maximum(live.sum(), 1)
        chosen = (choice[..., None] == jnp.arange(memories)[None, None, None]).any(2) * live[..., None]
        share = chosen.sum((0, 1)) / count
        mean = (probabilities * live[..., None]).sum((0, 1)) / count
        entropy = -(jax.scipy.special.xlogy(probabilities, probabilities).sum(-1) * live).sum() / count
        return {
            "loss/router_balance": self.config.balance_weight * memories * (share * mean).sum(),
            "metric/router_entropy": entropy,
            "metric/router_unused": (share == 0).mean(),
            **{f"metric/router_share_{m}": share[m] for m in range(memories)},
        }

    @property
    def _keys(self) -> int:
        return self.heads * self.head_dim

    @property
    def _mixed(self) -> int:
        return 2 * self._keys + self.heads * self.value_dim

    def _by_head(self, z):
        return z.reshape(*z.shape[:2], self.heads, -1)

    def _with_conv(self, state, conv):
        m = self.config.memories
        return state._replace(conv=conv[:, :m], shared_conv=conv[:, m] if self.config.shared else None)

    def _with_memory(self, state, table):
        m = self.config.memories
        return state._replace(memory=table[:, :m], shared=table[:, m] if self.config.shared else None)


def _apart(joined, parts):
    """The last axis cut as `parts` were joined along it."""
    sizes = [part.shape[-1] for part in parts]
    return jnp.split(joined, [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)], axis=-1)


def _by_choice(own: Int[Array, "B J"], memories: int):
    """`times` and `pick` of `MixtureOfMemories._project` for one token a row, x [B, 1 or J, I] to [B, J, O].

    Few rows read the matrices of their own memories alone. Many would copy a matrix more than once: there every matrix
    meets every row, and the products that nobody chose are dropped.
    """
    if own.size < memories:
        spread = lambda z: jnp.broadcast_to(z, (*own.shape, z.shape[-1]))
        return lambda z, matrices: jnp.einsum("bji,bjio->bjo", spread(z), matrices), lambda matrices: matrices[own]

    def times(z, matrices):
        every = jnp.einsum("bji,sio->bjso", z, matrices)
        every = jnp.broadcast_to(every, (*own.shape, *every.shape[2:]))
        return jnp.take_along_axis(every, own[..., None, None], axis=2)[:, :, 0]

    return times, lambda matrices: matrices


def _join(all: Float[Array, "B M ..."], shared) -> Float[Array, "B S ..."]:
    """Routed memories and the shared one behind them."""
    return all if shared is None else jnp.concatenate([all, shared[:, None]], axis=1)
