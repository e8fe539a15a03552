"""The ops with a matrix a head: gated delta rule and gated linear attention."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.kernels.problem import Arrays, Problem, on_host_in_float64
from memjax import ops

LAST = slice(-1, None)
SLICE = (LAST, slice(None), LAST)  # the last head of the last sequence: it depends on no other


@dataclasses.dataclass(frozen=True)
class Matrix(Problem):
    """Sizes B, T, H and K = V = D. `gate`: "scalar" or "channel"."""

    batch: int
    time: int
    heads: int
    size: int
    gate: str = "scalar"
    dtype: str = "bfloat16"

    @property
    def label(self) -> str:
        return f"B{self.batch} T{self.time} H{self.heads} D{self.size} {self.gate} gate {self.dtype}"

    def draw(self, key):
        """q and k of length 1; decay and writing strength as a trained layer has them, in float32."""
        keys = iter(jax.random.split(key, 6))
        lead = (self.batch, self.time, self.heads)
        normal = lambda *more: jax.random.normal(next(keys), (*lead, *more), jnp.float32)
        unit = lambda x: (x / jnp.linalg.norm(x, axis=-1, keepdims=True)).astype(self.dtype)
        arrays = {"q": unit(normal(self.size)), "k": unit(normal(self.size))}
        arrays |= {name: normal(self.size).astype(self.dtype) for name in ("v", "cotangent")}
        arrays["log_decay"] = -jax.nn.softplus(normal(*([self.size] if self.gate == "channel" else [])) - 2)
        if "beta" in self.wrt:
            arrays["beta"] = jax.nn.sigmoid(normal())
        return arrays

    def forward(self, arrays, implementation):
        call = getattr(ops, self.op)
        o, state = call(*(arrays[name] for name in self.wrt), implementation=implementation)
        return {"o": o, "state": state}

    def sample(self, results: Arrays, arrays: Arrays):
        del arrays
        pick = lambda name, x: x[LAST, LAST] if name == "state" else x[SLICE]
        return {name: np.asarray(pick(name, x)) for name, x in results.items()}

    def truth(self, arrays: Arrays):
        head = {name: np.asarray(x[SLICE]) for name, x in arrays.items()}

        def results(head: Arrays) -> dict[str, jax.Array]:
            wrt = {name: head[name] for name in self.wrt}
            (o, state), pull = jax.vjp(self._by_pieces, wrt)
            (gradients,) = pull((head["cotangent"], jnp.zeros_like(state)))
            return {"o": o, "state": state, **{f"d {name}": x for name, x in gradients.items()}}

        return on_host_in_float64(results, head)

    def _by_pieces(self, head: Arrays) -> tuple[jax.Array, jax.Array]:
        """The definition over pieces of the sequence, so that the gradient keeps a state a piece, none a token."""
        piece = math.gcd(self.time, 128)
        pieces = {name: jnp.moveaxis(x.reshape(1, -1, piece, *x.shape[2:]), 1, 0) for name, x in head.items()}

        @jax.checkpoint
        def step(state, x):
            call: Any = getattr(ops, self.op)
            o, state = call(*(x[name] for name in self.wrt), initial_state=state, implementation="reference")
            return state, o

        state, o = jax.lax.scan(step, jnp.zeros((1, 1, self.size, self.size)), pieces)
        return jnp.moveaxis(o, 0, 1).reshape(head["v"].shape), state

    def bytes(self, gradient):
        tokens = self.batch * self.time * self.heads
        width, gates = self.size * jnp.dtype(self.dtype).itemsize, 4 * (self.size if self.gate == "channel" else 1)
        inputs = tokens * (3 * width + gates + (4 if "beta" in self.wrt else 0))
        forward = inputs + tokens * width + 4 * self.batch * self.heads * self.size**2
        return forward + (2 * inputs + tokens * width if gradient else 0)

    def flops(self, gradient):
        products = 3 if self.op == "gated_delta_rule" else 2  # read, (correct,) write
        return (3 if gradient else 1) * 2.0 * products * self.batch * self.time * self.heads * self.size**2


@dataclasses.dataclass(frozen=True)
class GatedDeltaRule(Matrix):
    op = "gated_delta_rule"
    wrt = ("q", "k", "v", "log_decay", "beta")


@dataclasses.dataclass(frozen=True)
class GatedLinearAttention(Matrix):
    op = "gated_linear_attention"
    wrt = ("q", "k", "v", "log_decay")
