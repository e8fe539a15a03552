"""Order, positions and errors of reading ahead; what is kept of a row."""

import numpy as np
import pytest

from memjax.data import train_loader
from memjax.sharding import make_mesh
from memjax.training.feed import Feed, keep_scored, make_place


def test_positions_belong_to_the_batches_they_come_with(tiny):
    loader = train_loader(tiny.data, batch_size=4, seed=0)
    with Feed(iter(loader), dict, ahead=3) as feed:
        drawn = [next(feed) for _ in range(4)]
    resumed = iter(loader)
    resumed.set_state(drawn[1][1])
    np.testing.assert_array_equal(next(resumed)["tokens"], drawn[2][0]["tokens"])
    assert np.abs(drawn[2][0]["tokens"] - drawn[3][0]["tokens"]).max() > 0


def test_errors_of_the_data_reach_the_loop(tiny):
    def fail(rows):
        raise ValueError("bad row")

    with (
        Feed(iter(train_loader(tiny.data, batch_size=4, seed=0)), fail) as feed,
        pytest.raises(ValueError, match="bad row"),
    ):
        next(feed)


def test_keep_scored_keeps_every_target(rng):
    targets = np.where(rng.random((2, 5, 20)) < 0.2, rng.integers(0, 9, (2, 5, 20)), -1).astype(np.int32)
    most = int((targets >= 0).sum(-1).max())
    kept = keep_scored({"tokens": targets, "targets": targets}, most)
    rebuilt = np.full_like(targets, -1)
    np.put_along_axis(rebuilt, kept["positions"], kept["targets"], -1)
    np.testing.assert_array_equal(rebuilt, targets)
    assert kept["targets"].shape == (2, 5, most) and kept["tokens"] is targets


def test_keep_scored_leaves_well_filled_rows_alone():
    rows = {"targets": np.zeros((1, 2, 6), np.int32)}
    assert keep_scored(rows, 6) is rows


def test_more_scored_positions_than_declared_are_an_error():
    with pytest.raises(ValueError, match="3 scored positions, more than the 2"):
        keep_scored({"targets": np.array([[[1, 2, 3, -1]]], np.int32)}, 2)


def test_placing_splits_rows_into_micro_batches_and_drops_trivial_segments(rng):
    rows = {name: rng.integers(0, 5, (8, 6)).astype(np.int32) for name in ("tokens", "targets", "segment_ids")}
    batch = make_place(make_mesh(data=2), 2, None)(rows)
    assert batch["tokens"].shape == (2, 4, 6) and batch["tokens"].sharding.spec[1] == ("data", "fsdp")
    np.testing.assert_array_equal(batch["tokens"][1, 0], rows["tokens"][4])
    assert "segment_ids" in batch and "segment_ids" not in make_place(make_mesh(), 1, {6: 6})(rows)
