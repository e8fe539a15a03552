"""The forgetting variant of MQAR: keys that get another value are worth their latest one."""

import numpy as np
import pytest

from memjax.tasks import mqar
from memjax.tasks.mqar import MQARConfig

CONFIG = MQARConfig(vocab_size=64, length=48, pairs=5, updates=6, random_non_queries=False)


def test_the_latest_value_of_a_key_solves_it():
    data = mqar.generate(np.random.default_rng(0), 100, CONFIG)
    answers, first, reassigned = np.zeros((2, 100, 48), int), 0, 0
    latest, earliest = answers
    for row, new, old in zip(data["tokens"], latest, earliest, strict=True):
        pairs = list(zip(row[0:22:2].tolist(), row[1:22:2].tolist(), strict=True))
        new[:] = [dict(pairs).get(token, -1) for token in row.tolist()]
        old[:] = [dict(reversed(pairs)).get(token, -1) for token in row.tolist()]
        reassigned += len({key for key, _ in pairs[5:]})
        first += len({key for key, _ in pairs})
    assert mqar.score(latest, data, CONFIG) == {"accuracy": 1.0, "row_accuracy": 1.0}
    wrong = 1 - mqar.score(earliest, data, CONFIG)["accuracy"]
    assert first == 500, "updates bring no new key"
    np.testing.assert_allclose(wrong, reassigned / 500)
    assert (data["targets"] >= 0).sum(1).tolist() == [mqar.scored(CONFIG)] * 100


def test_values_of_a_row_are_all_different():
    tokens = mqar.generate(np.random.default_rng(1), 50, CONFIG)["tokens"]
    assert all(len(set(row)) == 11 for row in tokens[:, 1:22:2].tolist())


def test_without_updates_the_rows_are_what_they_were():
    plain = MQARConfig(vocab_size=64, length=48, pairs=5)
    assert mqar.describe(plain) == {"pairs": 5, "length": 48}
    assert mqar.describe(CONFIG) == {"pairs": 5, "length": 48, "updates": 6}


@pytest.mark.parametrize("fields", [{"updates": -1}, {"updates": 15}, {"vocab_size": 20}])
def test_impossible_updates_are_refused(fields):
    with pytest.raises(ValueError, match=r"updates|values"):
        MQARConfig(**{"vocab_size": 64, "length": 48, "pairs": 5, "updates": 6, **fields})
