"""The k best of N * N product keys, found exactly without forming the N * N scores.

    score(a, b) = <q_1, K_1[a]> + <q_2, K_2[b]>          row = a N + b

Product-key memory (Lample et al., arXiv 1907.05242, section 3.1): a key of N * N is a pair of sub-keys, one of each of
two sets of N, so the best pairs are made of the best sub-keys. With both lists sorted, best first, the pair of the i-th
and the j-th sub-key is beaten by the i j - 1 other pairs of an i'-th and j'-th with i' <= i and j' <= j, so that only
the pairs with

    i j <= k

can be among the k best: 119 of the 1024 pairs of two lists of 32.

Ties. Of equal scores the lower row comes first, in the order and in the choice of what is in it. A pair that was left
out can tie with those that beat it: where the sub-keys themselves are equal, of which the lower comes first, so that
the rows that beat it are lower; or where different sums round to one number. Then the better sub-keys win, and the row
may be the higher one. The scores are the k best in any case.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def product_key_topk(
    query: Float[Array, "*lead H 2 C"], keys: Float[Array, "H 2 N C"], k: int
) -> tuple[Float[Array, "*lead H k"], Int[Array, "*lead H k"]]:
    """Scores and rows of the k best product keys of every head, best first; equal scores by ascending row.

    Exact: the scores are the k best of all N * N sums of the two halves' scores. The gradient goes to the query and to
    the sub-keys of the chosen rows only.

    Args:
        query: [..., H, 2, C], the two halves of each head's query.
        keys: [H, 2, N, C], two sets of N sub-keys a head.
        k: how many rows to find, 1 .. N * N.

    Returns:
        scores [..., H, k] in float32 (float64 for float64 inputs), also of bfloat16, whose products are summed in
        float32; and rows [..., H, k] int32 in [0, N * N), row = a N + b for the a-th sub-key of the first set and the
        b-th of the second.

    Raises:
        ValueError: shapes that do not fit together, a k that is not in 1 .. N * N, or N * N >= 2**31.
    """
    _check(query, keys, k)
    *lead, heads, _, width = query.shape
    halves = _half_scores(query.reshape(math.prod(lead), heads, 2, width), keys)
    rows = _best_rows(*jax.lax.stop_gradient(halves), k)
    by_token = lambda x: jnp.moveaxis(x, 0, 1).reshape(*lead, heads, k)
    return by_token(_sums(*halves, rows)), by_token(rows)


def _half_scores(query, keys):
    """Those of the first and of the second half, [H, T, N] each, as they come out of the product.

    A zero is made positive: `top_k` puts 0 before -0, and a tie would not go to the lower row.
    """
    wide = jnp.promote_types(jnp.promote_types(query.dtype, keys.dtype), jnp.float32)
    scores = jnp.einsum("thsc,hsnc->shtn", query, keys, precision="highest", preferred_element_type=wide)
    scores = jnp.where(scores == 0, 0, scores)
    return scores[0], scores[1]


def _best_rows(first, second, k):
    """Rows of the k best sums, [H, T, k]. The candidates are brought into the order of their rows, since `top_k` takes
    the first of equal ones; their sums are then read anew, so that the sort has nothing to carry along."""
    count = first.shape[-1]
    # The two are separate calls: XLA takes a slice of what `top_k` gives for one of the sort below it, and sorts all.
    best = [jax.lax.top_k(half, min(k, count))[1] for half in (first, second)]
    left, right = (half[..., ranks] for half, ranks in zip(best, _candidates(k, count), strict=True))
    rows = jax.lax.sort((left * count + right).astype(jnp.int32), is_stable=False)
    _, chosen = jax.lax.top_k(_sums(first, second, rows), k)
    return jnp.take_along_axis(rows, chosen, axis=-1)


def _candidates(k, count):
    """Ranks, from 0, in the first and in the second list of the pairs that can be among the k best."""
    ranks = np.arange(1, min(k, count) + 1)
    return np.nonzero(ranks[:, None] * ranks[None] <= k)


def _sums(first, second, rows):
    """Scores [H, T, c] of the rows [H, T, c]."""
    count = first.shape[-1]
    read = lambda half, at: jnp.take_along_axis(half, at, axis=-1, mode="promise_in_bounds")
    return read(first, rows // count) + read(second, rows % count)


def _check(query, keys, k):
    if keys.ndim != 4 or keys.shape[1] != 2 or 0 in keys.shape:
        raise ValueError(f"product_key_topk: keys has shape {keys.shape}, expected [H, 2, N, C], none of them 0")
    heads, _, count, width = keys.shape
    if query.shape[-3:] != (heads, 2, width):
        raise ValueError(
            f"product_key_topk: query has shape {query.shape}, expected [..., {heads}, 2, {width}] as keys has it"
        )
    if count * count >= 2**31:
        raise ValueError(f"product_key_topk: keys has N = {count} sub-keys, and N * N rows do not fit into int32")
    if not 1 <= k <= count * count:
        raise ValueError(f"product_key_topk: k is {k}, expected 1 .. N * N = {count * count}")
