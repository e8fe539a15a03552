"""What the benchmark knows about an op at a shape."""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

Arrays = Mapping[str, jax.Array]  # by name; results are "o", "state" and "d NAME", the gradient of an input


class Problem(abc.ABC):
    """An op at a shape. The gradient is that of sum(o * cotangent).

    Attributes:
        op: the op's name as the command line has it.
        wrt: inputs that are differentiated.
        dtype: of the large arrays, and the row of the tolerance table.
        modes: what is measured, `forward` and then `gradient`.
    """

    op: str
    wrt: tuple[str, ...]
    dtype: str
    modes: tuple[str, ...] = ("forward", "forward + backward")

    @property
    @abc.abstractmethod
    def label(self) -> str:
        """The shape in words."""

    @abc.abstractmethod
    def draw(self, key: jax.Array) -> dict[str, jax.Array]:
        """Fresh inputs on the device, with `cotangent`."""

    @abc.abstractmethod
    def forward(self, arrays: Arrays, implementation: Any) -> dict[str, jax.Array]:
        """The op's results, "o" first of all."""

    @abc.abstractmethod
    def sample(self, results: Arrays, arrays: Arrays) -> dict[str, np.ndarray]:
        """The part of the results that `truth` knows, on the host."""

    @abc.abstractmethod
    def truth(self, arrays: Arrays) -> dict[str, np.ndarray]:
        """That part in float64, computed on the host, of results and gradients."""

    @abc.abstractmethod
    def bytes(self, gradient: bool) -> int:
        """What has to be read and written: inputs once, results once; with the gradient once more each, and theirs."""

    @abc.abstractmethod
    def flops(self, gradient: bool) -> float:
        """Multiplications and additions of the definition, a token at a time; chunks do more of them to be fast."""

    def gradient(self, arrays: Arrays, implementation: Any) -> dict[str, jax.Array]:
        """o, so that the forward is not left out, and the gradients."""
        return gradient_of(lambda x: self.forward(x, implementation)["o"], arrays, self.wrt)


def gradient_of(function: Callable[[Arrays], jax.Array], arrays: Arrays, wrt: tuple[str, ...]) -> dict[str, jax.Array]:
    """{"o": function(arrays), "d NAME": gradient of sum(o * cotangent), ...}."""
    o, pull = jax.vjp(lambda changed: function({**arrays, **changed}), {name: arrays[name] for name in wrt})
    (gradients,) = pull(arrays["cotangent"])
    return {"o": o, **{f"d {name}": gradient for name, gradient in gradients.items()}}


def on_host_in_float64(function: Callable, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`function` of the arrays, jitted on this host's processor with 64-bit numbers."""
    wide = {
        name: np.asarray(x).astype(np.complex128 if np.iscomplexobj(x) else np.float64) for name, x in arrays.items()
    }
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        return jax.tree.map(np.asarray, jax.jit(function)(wide))
