import pytest

from memjax.evaluation.plots import rows
from tests.evaluation.samples import config, everything, mqar, report


def test_recall_is_an_accuracy_at_a_setting_and_nothing_that_another_program_scored():
    found = everything()
    found["results"] += [
        {"task": "harness/lambada", "accuracy": 0.5, "axes": ["shots"], "shots": 0},
        {"task": "knowledge", "accuracy": 0.5},
        {"task": "linear_regression", "mse": 0.5, "axes": ["points"], "points": 4},
        mqar(2, 16, None, task="parity"),  # pyright: ignore[reportArgumentType]
    ]
    assert rows.recall_tasks([found]) == ["mqar", "needles"]
    assert len(rows.recall_rows(found)) == 10 and len(rows.recall_rows(found, "mqar")) == 4


@pytest.mark.parametrize(
    ("mixers", "context", "name"),
    [
        (("GatedDeltaNet",), None, "GatedDeltaNet"),
        (("GatedDeltaNet", "GatedDeltaNet", "Attention"), None, "GatedDeltaNet + Attention"),
        (("Attention",), 64, "Attention"),
        (("BaseConv", "Attention"), 32, "BaseConv + SlidingWindow"),
        ((), None, "unknown"),
    ],
)
def test_the_architecture_is_what_the_blocks_mix_with(mixers, context, name):
    settings = config(*mixers)
    for block in settings["model"]["blocks"]:
        block["mixer"] |= {"context": context} if context else {}
    assert rows.architecture(report(mqar(2, 32, 1.0), mqar(2, 64, 1.0), config=settings)) == name


def seeds(count, **changes):
    return [
        report(
            mqar(2, 64, 0.2 * s), run=f"wide/seed{s}", config=config("S4D", seed=s, output_dir=f"runs/{s}", **changes)
        )
        for s in range(count)
    ]


def test_seeds_of_a_configuration_become_their_mean_where_lines_are_many():
    several, other = seeds(4), seeds(4, learning_rate=0.1)
    assert rows.mean_of_seeds(several) == several
    first, second = rows.mean_of_seeds(several + other)
    assert first["run"] == "wide (4 seeds)" == second["run"]
    assert first["results"][0]["accuracy"] == pytest.approx(0.3)


def test_runs_that_are_no_seeds_of_each_other_stay_apart():
    twice = seeds(4) * 2  # the same seed two times is a copy and no seed
    assert rows.mean_of_seeds(twice) == twice
    unknown = [report(mqar(2, 64, 0.5), run=f"run{i}") for i in range(9)]
    assert rows.mean_of_seeds(unknown) == unknown


@pytest.mark.parametrize(
    ("size", "words"), [(512, "512 B"), (20_992, "20.5 KiB"), (3 << 20, "3.0 MiB"), (1 << 31, "2.0 GiB")]
)
def test_sizes_in_words(size, words):
    assert rows.state_size(size) == words
