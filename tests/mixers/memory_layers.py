"""Plain float64 forms of what memory layers have in common, one token at a time, and their parameters as numpy."""

import jax
import numpy as np
from flax import nnx

from memjax.sharding import path_name


def parameters(layer) -> dict[str, np.ndarray]:
    """Parameters of a layer by path, float64."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.split(layer)[1])
    return {path_name(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


def rms(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def gelu(x: np.ndarray) -> np.ndarray:
    """The form with tanh."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def best(scores: np.ndarray, k: int) -> np.ndarray:
    """Numbers of the k largest, best first."""
    return np.argsort(-scores, kind="stable")[:k]


def product_keys(p: dict[str, np.ndarray], x: np.ndarray, heads: int, k: int):
    """(head, rows, scores) of each head for a token x, by all N * N scores."""
    keys = p["lookup/keys"]
    query = (x @ p["lookup/query/kernel"]).reshape(heads, 2, -1)
    if "lookup/query_norm/scale" in p:
        query = rms(query) * p["lookup/query_norm/scale"]
    if "lookup/key_scale" in p:
        keys = rms(keys) * p["lookup/key_scale"] * keys.shape[-1] ** -0.5
    for head in range(heads):
        one, two = (keys[head, half] @ query[head, half] for half in range(2))
        scores = (one[:, None] + two[None, :]).reshape(-1)
        rows = best(scores, k)
        yield head, rows, scores[rows]
