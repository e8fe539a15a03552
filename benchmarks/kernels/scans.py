"""The linear scan: real, complex, and with a decay that is the same at every token."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.kernels.problem import Arrays, Problem, gradient_of, on_host_in_float64
from memjax import ops

CHANNELS = slice(-8, None)  # the last ones, of all sequences, so that the gradient of a constant decay is whole


@dataclasses.dataclass(frozen=True)
class LinearScan(Problem):
    """Sizes B, T, D. `constant`: the decay is [D], not [B, T, D]."""

    batch: int
    time: int
    width: int
    dtype: str = "float32"
    constant: bool = False

    op = "linear_scan"
    wrt = ("decay", "x")

    @property
    def label(self) -> str:
        return f"B{self.batch} T{self.time} D{self.width} {self.dtype}{', constant decay' if self.constant else ''}"

    def draw(self, key):
        """Decays around 0.9, complex ones at every angle."""
        keys = iter(jax.random.split(key, 4))
        size = (self.batch, self.time, self.width)
        decay = size[2:] if self.constant else size
        modulus = jax.nn.sigmoid(2 + jax.random.normal(next(keys), decay))
        if self.dtype == "complex64":
            modulus *= jnp.exp(3j * jax.random.normal(next(keys), decay))
        x, cotangent = (jax.random.normal(next(keys), size, self.dtype) for _ in range(2))
        return {"decay": modulus, "x": x, "cotangent": cotangent}

    def forward(self, arrays, implementation):
        h, last = ops.linear_scan(arrays["decay"], arrays["x"], implementation=implementation)
        return {"o": h, "state": last}

    def sample(self, results: Arrays, arrays: Arrays):
        del arrays
        return {name: np.asarray(x[..., CHANNELS]) for name, x in results.items()}

    def truth(self, arrays: Arrays):
        def results(few: Arrays) -> dict[str, jax.Array]:
            return gradient_of(lambda x: self.forward(x, "reference")["o"], few, self.wrt) | self.forward(
                few, "reference"
            )

        return on_host_in_float64(results, self.sample(arrays, arrays))

    def bytes(self, gradient):
        numbers, itemsize = self.batch * self.time * self.width, jnp.dtype(self.dtype).itemsize
        size, decay = numbers * itemsize, 0 if self.constant else numbers * max(itemsize, 4)
        forward = 2 * size + decay
        return forward + (3 * size + 2 * decay if gradient else 0)  # decay, h, cotangent in; two gradients out

    def flops(self, gradient):
        product = 8.0 if self.dtype == "complex64" else 2.0
        return (3 if gradient else 1) * product * self.batch * self.time * self.width
