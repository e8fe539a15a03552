"""The decay gate of Mamba2 (Dao and Gu, arXiv 2405.21060) that gated delta networks took over.

log_decay = -exp(A_log) softplus(raw + dt_bias)          raw one number a head and token, from the input
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def init_decay_gate(key: jax.Array, heads: int, *, lowest: float = 1e-4) -> tuple[Float[Array, "G"], Float[Array, "G"]]:
    """A_log with A uniform in (`lowest`, 16), and dt_bias with softplus(dt_bias) log-uniform in (1e-3, 1e-1).

    `lowest` keeps A from zero, where A_log = -inf would kill the gate; Mamba2 takes 1.
    """
    key_a, key_dt = jax.random.split(key)
    a = jax.random.uniform(key_a, (heads,), jnp.float32, lowest, 16.0)
    return jnp.log(a), init_step_bias(key_dt, heads)


def init_step_bias(
    key: jax.Array, count: int, *, shortest: float = 1e-3, longest: float = 1e-1
) -> Float[Array, "count"]:
    """b with softplus(b) log-uniform in (`shortest`, `longest`), the steps dt of a discretised system."""
    dt = jnp.exp(init_log_step(key, count, shortest=shortest, longest=longest))
    return dt + jnp.log(-jnp.expm1(-dt))


def init_log_step(key: jax.Array, count: int, *, shortest: float, longest: float) -> Float[Array, "count"]:
    """Logarithms of steps dt, uniform between those of `shortest` and `longest`. Raises ValueError for no range."""
    if not 0 < shortest <= longest:
        raise ValueError(f"dt_min={shortest} and dt_max={longest} are no range of steps")
    return jax.random.uniform(key, (count,), jnp.float32, math.log(shortest), math.log(longest))


def gate_log_decay(
    raw: Float[Array, "B T G"], A_log: Float[Array, "G"], dt_bias: Float[Array, "G"]
) -> Float[Array, "B T G"]:
    """-exp(A_log) softplus(raw + dt_bias), in float32: the log-decay of a token, <= 0."""
    return gate_step(raw, A_log, dt_bias)[1]


def gate_step(
    raw: Float[Array, "B T G"], A_log: Float[Array, "G"], dt_bias: Float[Array, "G"]
) -> tuple[Float[Array, "B T G"], Float[Array, "B T G"]]:
    """The step softplus(raw + dt_bias) of a token, by which Mamba2 scales what it writes, and its log-decay."""
    step = jax.nn.softplus(raw.astype(jnp.float32) + dt_bias[None, None])
    return step, -jnp.exp(A_log)[None, None] * step
