"""What the MAD tasks share: the metric against a hand count, and where the answers of a row are."""

import numpy as np
import pytest

from memjax.tasks import _mad


def test_macro_and_micro_by_hand():
    targets = np.array([[0, 0, 0, 1, 2, -1]])
    predictions = np.array([[0, 0, 1, 1, 3, 4]])
    # 0: 2 of 3; 1: 1 of 1; 2: 0 of 1; 3: predicted and no target, so 0; 4: predicted where nothing is scored
    assert _mad.macro_accuracy(predictions, targets, 8) == (pytest.approx((2 / 3 + 1 + 0 + 0) / 4), 3 / 5)
    assert _mad.macro_accuracy(np.where(targets == 2, 99, targets), targets, 8) == (pytest.approx(2 / 3), 4 / 5)


def test_macro_is_a_mean_over_batches_of_128_rows():
    targets = np.zeros((192, 1), int)
    targets[127:] = 1
    predictions = np.where(np.arange(192) < 128, 0, 1)[:, None]
    # first batch: 0 is right 127 times of 127, 1 never (one row); the second one, half as large, is all right
    macro, micro = _mad.macro_accuracy(predictions, targets, 2)
    assert macro == pytest.approx((0.5 * 128 + 1.0 * 64) / 192) and micro == pytest.approx(191 / 192)


def test_answers_are_values_of_keys_seen_before():
    # keys are made of 0 to 3, values of 4 to 7, the rest means nothing; (0, 1) and (1,) are different keys
    row = [9, 0, 1, 4, 1, 5, 6, 9, 9, 0, 1, 4, 2, 7, 1, 5, 6]
    there = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1]
    np.testing.assert_array_equal(_mad.answers(np.array([row]), 4, 4)[0], np.array(there, bool))


def test_a_row_of_noise_alone_still_holds_a_pair():
    for seed in range(30):
        row = _mad.draw_pairs(np.random.default_rng(seed), 6, 2, 2, noise=3, fraction=0.999)
        assert len(row) == 6 and tuple(row[-2:]) in {tuple(row[:2]), tuple(row[2:4])}
