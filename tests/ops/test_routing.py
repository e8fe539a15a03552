"""The stream of routed tokens against lists that say the same, and its maps against one-hot matrices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.ops import routing, segments
from tests.tolerances import assert_close

B, T, J, S, C = 2, 23, 2, 5, 4
LENGTH = (T * J // C + S) * C
IDS = np.asarray([[0, 0, *[7] * 6, 0, 0, *[2] * 5, 3, *[7] * 6, 0], [1] * T], np.int32)
pack = jax.jit(lambda choice, ids: routing.pack(choice, S, C, segments.documents(ids)))
pack_whole = jax.jit(lambda choice: routing.pack(choice, S, C))


def draw(rng, popularity=None, batch=B):
    """J different memories for each token."""
    p = None if popularity is None else np.asarray(popularity) / np.sum(popularity)
    rows = [[rng.choice(S, J, replace=False, p=p) for _ in range(T)] for _ in range(batch)]
    return np.asarray(rows, np.int32)


def as_lists(choice, valid):
    """One row by hand: the assignment at each place (None where there is none) and the memory of each chunk in use."""
    places, chunks = [], []
    for memory in range(S):
        mine = [t * J + j for t in range(T) for j in range(J) if valid[t] and choice[t, j] == memory]
        filled = mine + [None] * (-len(mine) % C)
        places += filled
        chunks += [memory] * (len(filled) // C)
    return places, chunks


@pytest.mark.parametrize("popularity", [None, [1, 1, 1e-9, 30, 1e-9], [1e-9, 1e-9, 1e-9, 1, 1]], ids=str)
def test_a_stream_is_sorted_by_memory_then_time_in_whole_chunks(popularity, rng):
    for _ in range(5):
        choice = draw(rng, popularity)
        ids = np.where(rng.random((B, T)) < 0.3, 0, np.cumsum(rng.random((B, T)) < 0.2, axis=1) + 1).astype(np.int32)
        for stream, valid in ((pack(choice, ids), ids > 0), (pack_whole(choice), np.ones((B, T), bool))):
            stream = jax.device_get(stream)
            assert stream.source.shape == (B, LENGTH) and stream.chunk == C
            for row in range(B):
                places, chunks = as_lists(choice[row], valid[row])
                held = [None] * LENGTH
                held[: len(places)] = places
                source = [int(s) if v else None for s, v in zip(stream.source[row], stream.valid[row], strict=True)]
                assert source == held
                np.testing.assert_array_equal(stream.slots[row, : len(chunks)], chunks)
                begun = [n for n, memory in enumerate(chunks) if memory not in chunks[:n]]
                np.testing.assert_array_equal(np.flatnonzero(stream.first[row, : len(chunks)]), begun)
                hits = (choice[row][..., None] == np.arange(S)) & valid[row][:, None, None]
                np.testing.assert_array_equal(stream.counts[row], hits.sum((0, 1)))
                for n in begun:
                    assert stream.starts[row, chunks[n]] == n * C
                place = np.asarray(stream.place[row]).reshape(-1)
                expected = [places.index(i) if i in places else LENGTH for i in range(T * J)]
                np.testing.assert_array_equal(place, expected)


def test_the_stream_is_long_enough_when_every_memory_wastes_a_chunk():
    """Counts of 1 modulo C fill up most; T J = 46 assignments in chunks of 4 need 15 of the 16 chunks."""
    flat = np.repeat(np.arange(S), (9, 9, 9, 9, 10))
    choice = np.stack([np.stack([flat[:T], flat[T:]], axis=1)] * B).astype(np.int32)
    stream = jax.device_get(pack_whole(choice))
    assert (stream.valid.sum(1) == T * J).all() and stream.place.max() < LENGTH


def test_documents_in_the_stream(rng):
    """A place knows its token's document; the places that fill up a memory carry that of its last token."""
    ids, choice = IDS, draw(rng, [1, 0.1, 1, 1, 1])
    choice[0, 16:] = [0, 3]  # the last document never sees memories 1, 2 and 4
    stream, number = jax.device_get(pack(choice, ids)), np.asarray(segments.documents(jnp.asarray(ids)).index)
    for row in range(B):
        places, _ = as_lists(choice[row], ids[row] > 0)
        latest = 0
        for at, assignment in enumerate(places):
            begins = at % C == 0 and bool(stream.first[row, at // C])
            latest = number[row, assignment // J] if assignment is not None else (0 if begins else latest)
            assert int(stream.index[row, at]) == latest
        assert int(stream.last[row]) == number[row, -1]
    held = jax.jit(routing.current)
    np.testing.assert_array_equal(held(stream), [[True, False, False, True, False], [True] * S])
    assert np.asarray(held(pack_whole(choice))).all()


def test_to_the_stream_and_back_are_each_others_transpose(rng):
    choice, ids = draw(rng), IDS
    stream = pack(choice, ids)
    there = np.zeros((B, LENGTH, T))  # one-hot: which token a place holds
    rows, places = np.nonzero(np.asarray(stream.valid))
    there[rows, places, np.asarray(stream.source)[rows, places] // J] = 1
    x, y = (jnp.asarray(rng.normal(size=(B, n, 3)), jnp.float32) for n in (T, LENGTH))
    weights = jnp.asarray(rng.normal(size=(B, T, J, 3)), jnp.float32)

    @jax.jit
    def both(x, y, weights, stream):
        streamed, pull_x = jax.vjp(lambda x: routing.to_stream(x, stream), x)
        found, pull_y = jax.vjp(lambda y: routing.from_stream(y, stream), y)
        return streamed, pull_x(y)[0], found, pull_y(weights)[0]

    streamed, d_x, found, d_y = jax.device_get(both(x, y, weights, stream))
    assert_close(streamed, np.einsum("blt,btf->blf", there, x))
    assert_close(d_x, np.einsum("blt,blf->btf", there, y), gradient=True)
    assert_close(found.sum(2), np.einsum("blt,blf->btf", there, y))
    assert not found[ids == 0].any(), "padding finds nothing"
    inner = lambda a, b: np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64))
    np.testing.assert_allclose(inner(found, weights), inner(y, d_y), rtol=1e-5)
    assert not d_y[~np.asarray(stream.valid)].any()


def test_each_chunk_meets_the_matrix_of_its_memory(rng):
    stream = pack_whole(draw(rng, [1, 1, 1e-9, 1, 1]))
    x, matrices = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((B, LENGTH, 3), (S, 3, 6)))
    weights = jnp.asarray(rng.normal(size=(B, LENGTH, 6)), jnp.float32)
    own = jnp.repeat(jax.nn.one_hot(stream.slots, S), C, axis=1)
    by_hand = lambda x, matrices: jnp.einsum("bls,bld,sdf->blf", own, x, matrices, precision="highest")
    both = lambda f: jax.jit(lambda x, matrices: (f(x, matrices), jax.vjp(f, x, matrices)[1](weights)))(x, matrices)
    value, gradients = both(lambda x, matrices: routing.times_own(x, matrices, stream))
    expected, expected_gradients = both(by_hand)
    assert_close(value, expected)
    assert_close(gradients, expected_gradients, gradient=True)
    assert not np.asarray(gradients[1])[2].any(), "a memory without tokens has no gradient"


def test_gradients_of_matrices_are_added_up_in_float32():
    """1024 products of one, chunk by chunk in bfloat16, would stop growing at 256."""
    stream = jax.jit(partial(routing.pack, memories=1, chunk=1))(jnp.zeros((1, 1024, 1), jnp.int32))
    x, matrices = stream.valid[..., None].astype(jnp.bfloat16), jnp.ones((1, 1, 1), jnp.bfloat16)
    loss = lambda matrices: routing.times_own(x, matrices, stream).astype(jnp.float32).sum()
    gradient = jax.jit(jax.grad(loss))(matrices)
    assert gradient.dtype == jnp.bfloat16 and float(gradient[0, 0, 0]) == 1024


def test_the_past_of_a_chunk_and_of_the_next_call(rng):
    """Before each chunk and after the stream, against the list of each memory's tokens with its past in front."""
    reach, ids = 3, IDS
    choice = draw(rng, [1, 1, 1e-9, 1, 1])
    x, past = (rng.normal(size=shape).astype(np.float32) for shape in ((B, T, 2), (B, S, reach, 2)))
    number = np.asarray(segments.documents(jnp.asarray(ids)).index)
    both = jax.jit(lambda *z: (routing.before_chunks(*z), routing.after_stream(*z)))
    for stream, docs in ((pack(choice, ids), number), (pack_whole(choice), np.zeros_like(number))):
        before, after = map(np.asarray, both(routing.to_stream(jnp.asarray(x), stream), past, stream))
        before = before.reshape(B, -1, reach, 2)
        for row in range(B):
            valid = ids[row] > 0 if stream.index is not None else np.ones(T, bool)
            places, chunks = as_lists(choice[row], valid)
            for memory in range(S):
                history = [(past[row, memory, i], 0) for i in range(reach)]
                for n in range(len(chunks)):
                    if chunks[n] != memory:
                        continue
                    tokens = [p // J for p in places[n * C : (n + 1) * C] if p is not None]
                    kept = [value * (doc == docs[row, tokens[0]]) for value, doc in history[-reach:]]
                    np.testing.assert_array_equal(before[row, n], kept)
                    history += [(x[row, t], docs[row, t]) for t in tokens]
                kept = [value * (doc == docs[row, -1]) for value, doc in history[-reach:]]
                np.testing.assert_array_equal(after[row, memory], kept)


@pytest.mark.parametrize(
    ("time", "topk", "memories", "size"), [(2, 3, 5, 16), (2048, 3, 5, 64), (512, 2, 16, 16), (512, 2, 4, 32)]
)
def test_chunks_shrink_where_many_memories_would_waste_them(time, topk, memories, size):
    assert routing.chunk_size(time, topk, memories) == size
    assert size == 16 or size * memories <= time * topk / 5
