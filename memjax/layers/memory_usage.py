"""How much of a table its reads use: the metrics of memory layers, a head at a time.

With c[m] reads of row m among n reads, and a[m] the sum of their weights' absolute values, over all M rows, the unread
ones too, and p = c / n, q = a / sum(a):

    used            share of the rows with c[m] > 0
    used_ceiling    what n reads of rows picked at random, each alike, use on average: 1 - (1 - 1/M)^n
    kl              from the uniform distribution, log M + sum p log p, in nats: 0 when all rows are read alike
    kl_weighted     the same of q
    gini            of c: 0 when all rows are read alike, 1 - 1/M when a single one is
    mass_50, _90, _99    the smallest share of the rows that holds so much of q

`used` and the two divergences are those that Lample et al. report (arXiv 1907.05242).
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from memjax.types import PER_LAYER

MASSES = (0.5, 0.9, 0.99)


def usage(
    indices: Int[Array, "*lead H k"],
    weights: Float[Array, "*lead H k"],
    rows: int,
    *,
    mask: Bool[Array, "*lead"] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Float[Array, ""]]:
    """The metrics of every head, float32 scalars without a gradient: {"head0/used": ..., "head0/used_ceiling": ...}.

    Time and memory grow with the number of reads, not with `rows`. The metrics of several calls can be averaged, but
    that is not the metric of all their reads: a longer batch uses more rows.

    Args:
        indices: the rows read, [..., H, k]; a number that is not in 0 .. rows - 1 does not count.
        weights: [..., H, k].
        rows: M, of the table.
        mask: [...] False for tokens that do not count (padding: `segment_ids > 0`); None: all do.
        names: what heads are called; None: "head0", "head1", ...

    A head without a read has zeros throughout; so have its kl_weighted and mass_* where all weights are zero.

    Raises:
        ValueError: H or k is 0, or `rows` is not in 1 .. 2**31 - 1.
    """
    if not 1 <= rows < 2**31:
        raise ValueError(f"usage: a table of {rows} rows, expected 1 .. 2**31 - 1")
    *lead, heads, bag = indices.shape
    if not heads or not bag:
        raise ValueError(f"usage: indices has shape {indices.shape}, expected [..., H, k] with H and k at least 1")
    counted = (indices >= 0) & (indices < rows)
    if mask is not None:
        counted &= mask[..., None, None]
    by_head = lambda x: jnp.moveaxis(x.reshape(math.prod(lead), heads, bag), 1, 0).reshape(heads, -1)
    reads = by_head(jnp.where(counted, indices, rows).astype(jnp.int32))
    size = by_head(jnp.abs(jax.lax.stop_gradient(weights).astype(jnp.float32)))
    if not reads.size:  # a call without tokens: one read, which does not count
        reads, size = jnp.full((heads, 1), rows), jnp.zeros((heads, 1))
    found = jax.vmap(lambda indices, size: _metrics(_sums(indices, size, rows), rows))(reads, size)
    names = [f"head{h}" for h in range(heads)] if names is None else names
    return {f"{head}/{name}": values[h] for h, head in enumerate(names) for name, values in found.items()}


def _sums(indices, size, rows):
    """For n reads of rows [n] in 0 .. M, where M does not count, [2, n]: how many reads a row has, and the sum of their
    `size`; a number for each row that was read and zeros for the rest, in descending order.

    Sorted, the reads of a row are neighbours; they are summed by doubling, so that many small numbers lose nothing.
    """
    indices, size = jax.lax.sort((indices, size), num_keys=1)
    number = jnp.arange(indices.size)
    changes = indices[1:] != indices[:-1]
    begins, ends = (jnp.concatenate(x) for x in ((jnp.ones(1, bool), changes), (changes, jnp.ones(1, bool))))
    place = number - jax.lax.cummax(jnp.where(begins, number, 0))  # how many reads of its row stand before it

    def double(p, sums):
        back = 1 << p
        return sums + jnp.where(place >= back, sums[jnp.maximum(number - back, 0)], 0)

    size = jax.lax.fori_loop(0, 32 - jax.lax.clz(place.max()), double, size)
    sums = jnp.stack([(place + 1).astype(size.dtype), size])
    sums = jnp.where((ends & (indices < rows))[None], sums, 0)
    # floats >= 0 have the order of their bits, and XLA on a CPU sorts integers in a quarter of the time
    bits = jax.lax.sort(jax.lax.bitcast_convert_type(sums, jnp.int32), is_stable=False)
    return jax.lax.bitcast_convert_type(bits[:, ::-1], jnp.float32)


def _metrics(sums, rows):
    counts, masses = sums
    total = sums.sum(axis=1)
    shares = sums / jnp.maximum(total, jnp.finfo(sums.dtype).tiny)[:, None]
    # sum p log(p M): near the uniform distribution its terms are small, unlike log M and sum p log p
    divergence = jnp.sum(shares * jnp.log(jnp.where(shares > 0, shares * rows, 1)), axis=1)
    # of p in descending order, p_j the j-th from 0: unread rows add nothing
    gini = 1 - jnp.sum(shares[0] * (2 * jnp.arange(counts.size, dtype=jnp.float32) + 1)) / rows
    # all reads of a table of one row are of that row
    ceiling = -jnp.expm1(total[0] * math.log1p(-1 / rows)) if rows > 1 else jnp.minimum(total[0], 1)
    held = jnp.cumsum(masses)
    return {
        "used": jnp.count_nonzero(counts) / rows,
        "used_ceiling": ceiling,
        "kl": divergence[0],
        "kl_weighted": divergence[1],
        "gini": jnp.where(total[0] > 0, gini, 0),
        **{f"mass_{round(100 * x)}": jnp.count_nonzero(held - masses < x * total[1]) / rows for x in MASSES},
    }


def usage_metrics(
    indices: Int[Array, "*lead H k"],
    weights: Float[Array, "*lead H k"],
    rows: int,
    segment_ids: Int[Array, "*lead"] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Float[Array, ""]]:
    """`usage` as a layer's `aux` has it, {"metric/layer/usage/head0/used": ...}; padding does not count."""
    mask = None if segment_ids is None else segment_ids > 0
    found = usage(indices, weights, rows, mask=mask, names=names)
    return {f"{PER_LAYER}usage/{name}": value for name, value in found.items()}
