"""The experiment on facts: models of equal cost, its table, its curves."""

import dataclasses

import pytest

from benchmarks import facts as look
from benchmarks.frontier import Variant
from configs import facts
from memjax.evaluation.learning_curves import draw_curves
from memjax.mixers import MemoryPlusConfig
from memjax.training.skeleton import Skeleton


@pytest.mark.parametrize("setting", ["small", "large"])
def test_a_token_costs_the_same_in_every_model_and_tables_are_of_one_size(setting):
    flops, tables = {}, {}
    for name, variant in facts.variants(setting).items():
        skeleton = Skeleton.of(variant.config.model)
        flops[name] = skeleton.flops_per_token(look.population(variant.config).length)
        tables[name] = sum(x.size for path, x in skeleton.abstract.items() if path.startswith("tables/"))
    assert max(flops.values()) / min(flops.values()) < 1.01
    sizes = [size for name, size in tables.items() if not name.startswith("Dense")]
    assert min(sizes) > 0 and max(sizes) / min(sizes) < 1.05


def test_a_memory_that_costs_more_than_the_mlp_is_refused():
    config = facts.get_config()
    dense = dataclasses.replace(config.model, blocks=facts.variants("small")["Dense"].config.model.blocks)
    with pytest.raises(ValueError, match="more than the dense model"):
        facts.matched(dense, MemoryPlusConfig(heads=16, subkeys=64), 72)


def row(mixer, end, accuracy, bits, curve=((50, 3.5), (100, 2.0))):
    numbers = {"attribute_accuracy": accuracy, "bits": bits, "bits_per_parameter": bits / 1000, "parameters": 1000}
    return {"mixer": mixer, "line": mixer, "panel": "even", "plateau": 3.5, "plateau_end": end, "flops": 64.0,
            "curve": [list(point) for point in curve], **numbers}  # fmt: skip


def test_table_and_figure_of_runs():
    rows = [row("Dense", 100, 0.5, 900.0), row("Dense", None, 0.7, 1100.0), row("Memory+", 50, 0.9, 1500.0)]
    variants = {name: Variant(name, facts.get_config()) for name in ("Dense", "Memory+", "PEER")}
    lines = look.table(rows, variants, (0, 1, 2))
    assert lines[2:] == [
        "| Dense | 0.600 ± 0.141 | 1,000 | 1.000 ± 0.141 | 100 (1 never) | 1,000 | 64 | 2 of 3 |",
        "| Memory+ | 0.900 | 1,500 | 1.500 | 50 | 1,000 | 64 | 1 of 3 |",
        "| PEER | - | - | - | - | - | - | 0 of 3 |",
    ]
    (panel,) = draw_curves(rows, title="a title").axes
    assert panel.get_title() == "even"
    drawn = {line.get_label(): list(line.get_ydata()) for line in panel.get_lines()}
    assert drawn["Dense"] == [3.5, 2.0] and set(drawn) == {"Dense", "Memory+", "knows nobody"}


def test_a_run_on_another_task_is_refused():
    from configs import quickstart

    with pytest.raises(ValueError, match="does not train on biographies"):
        look.population(quickstart.get_config())
