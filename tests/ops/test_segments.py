import jax.numpy as jnp
import numpy as np

from memjax.ops import segments


def test_documents_are_numbered_and_padding_is_not_one():
    ids = jnp.asarray([[0, 0, 3, 3, 0, 5, 5], [1, 1, 0, 1, 1, 2, 0], [0, 0, 0, 0, 0, 0, 0]], jnp.int32)
    docs = segments.documents(ids)
    np.testing.assert_array_equal(docs.valid, ids != 0)
    np.testing.assert_array_equal(docs.index, [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0, 0]])


def test_positions_count_from_the_start_of_the_document():
    ids = jnp.asarray([[0, 0, 3, 3, 0, 5, 5], [1, 1, 2, 2, 2, 0, 0]], jnp.int32)
    position = np.asarray(segments.positions(segments.documents(ids)))
    np.testing.assert_array_equal(position[np.asarray(ids) > 0], [0, 1, 0, 1, 0, 1, 0, 1, 2])


def test_counting_on_from_an_earlier_call():
    ids = jnp.asarray([[0, 4, 4, 0, 5, 5], [3, 3, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]], jnp.int32)
    position, count = segments.count_on(segments.documents(ids), jnp.asarray([7, 2, 9], jnp.int32))
    np.testing.assert_array_equal(np.asarray(position)[np.asarray(ids) > 0], [7, 8, 0, 1, 2, 3])
    np.testing.assert_array_equal(count, [2, 4, 9])
    whole = segments.documents(jnp.ones((2, 3), jnp.int32))
    for left, right in zip(segments.one_document(2, 3), whole, strict=True):
        np.testing.assert_array_equal(left, right)
