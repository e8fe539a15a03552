"""Runs: equal numbers that are neighbours, as those of sorted rows are."""

import jax
import jax.numpy as jnp


def begins(rows):
    """Where a run of `rows` [N] begins, [N]."""
    return jnp.concatenate([jnp.ones(1, bool), rows[1:] != rows[:-1]])[: rows.size]


def ends(rows):
    """Where one ends."""
    return jnp.concatenate([rows[1:] != rows[:-1], jnp.ones(1, bool)])[: rows.size]


def first(begins):
    """The number of the place at which the run of each place begins, [N]."""
    return jax.lax.cummax(jnp.where(begins, jnp.arange(begins.size, dtype=jnp.int32), 0))
