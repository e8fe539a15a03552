"""UltraMem and its V2 fields against a plain float64 form of their equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from memjax.mixers import UltraMemConfig
from tests.mixers.memory_layers import best, parameters, rms
from tests.tolerances import assert_close

WIDTH = 8
SMALL = {"topk": 4, "subkeys": 8, "key_dim": 4, "value_dim": 4}
V1 = UltraMemConfig(heads=2, **SMALL)
V2 = UltraMemConfig(expansion=1, cores=1, query_per_rank=True, pre_dim=3, tucker_weight=0.0, **SMALL)


def expected(config, p, x, seen):
    """y of one token: the query reads `seen`, what the convolution made of x, and V2's rows read x."""
    h, r, n, m, e = config.heads, config.rank, config.subkeys, config.topk, config.expansion
    query = rms((seen @ p["query/kernel"]).reshape(h, 2, -1, 2)) * p["query_norm/scale"]
    keys = rms(p["keys"]) * p["key_scale"]
    pooled = np.zeros((e, config.cores, 4 // config.cores))
    for head in range(h):
        one, two = (
            np.stack([keys[head, half, rank] @ query[head, half, rank % query.shape[2]] for rank in range(r)])
            for half in range(2)
        )
        core = p["cores"][head].sum(0)
        left, _, right = np.linalg.svd(core)
        sign = -1 if left[:, 0].sum() < 0 else 1
        rows, columns = best(sign * left[:, 0] @ one, m), best(sign * right[0] @ two, m)
        candidates = [(a, b) for a in rows for b in columns]
        grid = one.T @ core @ two
        for a, b in (candidates[c] for c in best(np.array([grid[at] for at in candidates]), m)):
            moved = (a + 5 * b) % n
            block, row = moved // (n // e), moved % (n // e) * n + b
            reading = p["table/pre"][row] @ (x @ p["pre/kernel"]) if config.pre_dim else 1
            for core_number in range(config.cores):
                score = one[:, a] @ p["cores"][head, core_number] @ two[:, b]
                pooled[block, core_number] += score * reading * p[f"table/values{core_number}"][row]
    return pooled.reshape(-1) @ p["output/kernel"]


@pytest.mark.parametrize("config", [V1, V2], ids=["V1", "V2"])
def test_equals_the_equations_token_by_token(config, getkey):
    layer = config.make(WIDTH, rngs=nnx.Rngs(0))
    x = jax.random.normal(getkey(), (2, 3, WIDTH))
    p = parameters(layer)
    wanted = [[expected(config, p, token, token) for token in row] for row in np.asarray(x, np.float64)]
    assert_close(jax.jit(lambda layer, x: layer(x).y)(layer, x), np.asarray(wanted), factor=3)


def test_every_slot_has_a_place_of_its_own_and_columns_share_no_block():
    from memjax.mixers.ultra_mem import _place

    a, b = np.divmod(np.arange(64), 8)
    block, row = _place(a, b, 8, 4)
    assert len(set(zip(block.tolist(), row.tolist(), strict=True))) == 64
    assert row.max() == 15 and block.max() == 3
    assert all(len(set(block[a == fixed].tolist())) == 4 for fixed in range(8))


def test_initial_output_has_the_variance_that_the_paper_derives():
    """1 / (2 L) an entry (section 3.6): the layers of a model together add one half."""
    x = jax.random.normal(jax.random.key(3), (4, 64, 64))
    for layers in (1, 4):
        config = UltraMemConfig(heads=2, topk=8, subkeys=32, init_layers=layers, usage=False)
        y = jax.jit(lambda layer, x: layer(x).y)(config.make(64, rngs=nnx.Rngs(0)), x)
        assert 0.2 < float(jnp.var(y)) * 2 * layers < 3


def test_a_convolution_before_the_query_gives_it_a_state_and_stays_causal(getkey):
    layer = UltraMemConfig(conv_width=3, usage=False, **SMALL).make(WIDTH, rngs=nnx.Rngs(0))
    x = jax.random.normal(getkey(), (1, 7, WIDTH))
    run = jax.jit(lambda layer, x, state=None, ids=None: layer(x, state, segment_ids=ids))
    whole = run(layer, x)
    first = run(layer, x[:, :4])
    second = run(layer, x[:, 4:], first.state)
    assert_close((jnp.concatenate([first.y, second.y], 1), second.state), (whole.y, whole.state))
    changed = run(layer, x.at[0, 4].set(9.0))
    np.testing.assert_array_equal(changed.y[0, :4], whole.y[0, :4])
    packed = run(layer, x, None, jnp.asarray([[1, 1, 1, 1, 2, 2, 2]], jnp.int32))
    assert_close(packed.y[:, 4:], run(layer, x[:, 4:]).y)


def test_tucker_loss_counts_the_singular_values_behind_the_first():
    layer = UltraMemConfig(cores=1, tucker_weight=2.0, **SMALL).make(WIDTH, rngs=nnx.Rngs(0))
    layer.cores[...] = jnp.asarray([[[[3.0, 0.0], [0.0, 0.65]]]])
    aux = jax.jit(lambda x: layer(x).aux)(jnp.ones((1, 1, WIDTH)))
    np.testing.assert_allclose(aux["loss/tucker"], 2 * (0.65 - 0.15) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [{"expansion": 3}, {"topk": 9}, {"cores": 3}, {"key_dim": 5}, {"conv_width": 0}],
    ids=lambda fields: next(iter(fields)),
)
def test_impossible_sizes_are_refused(fields):
    with pytest.raises(ValueError, match=f"{next(iter(fields))}"):
        UltraMemConfig(**{**SMALL, **fields}).make(WIDTH, rngs=nnx.Rngs(0))
