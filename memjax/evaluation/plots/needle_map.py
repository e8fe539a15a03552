"""Needles in a haystack: accuracy over the needle's depth and the length of the text, a panel a run and variant."""

from collections.abc import Sequence

from memjax.evaluation.plots.heatmap import Map, draw_maps
from memjax.evaluation.plots.rows import Report, Row, is_number, mean_of_seeds, recall_rows, setting_of

TASK = "needles"
AXES = ("length", "depth")


def needles(reports: Sequence[Report]):
    """A matplotlib `Figure` of the rows of needles that name a depth; None where there is none."""
    maps, reports = [], mean_of_seeds(reports)
    for report in reports:
        rows = [row for row in recall_rows(report, TASK) if all(is_number(row.get(axis)) for axis in AXES)]
        for kind in dict.fromkeys(setting_of(row, *AXES) for row in rows):
            own = [row for row in rows if setting_of(row, *AXES) == kind]
            maps.append(Map(_title(reports, report, own[0]), {(r["length"], r["depth"]): r["accuracy"] for r in own}))
    return draw_maps(
        maps,
        title="Needles found in a haystack",
        across="length (bytes)",
        upwards="depth (share of the text)",
        top_down=True,
    )


def _title(reports: Sequence[Report], report: Report, row: Row) -> str:
    kind = ", ".join(str(value) for _, value in setting_of(row, *AXES))
    return f"{report['run']}\n{kind}" if len(reports) > 1 else kind
