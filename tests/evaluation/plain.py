"""Losses and their buckets as a loop computes them, in float64."""

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def plain_table(losses, targets, segment_ids, edges):
    """[start, stop, loss, tokens] of the buckets, by a loop over every token of every row."""
    sums, counts = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1, int)
    for row_losses, row_targets, row_segments in zip(losses, targets, segment_ids, strict=True):
        seen, document = 0, None
        for loss, target, segment in zip(row_losses, row_targets, row_segments, strict=True):
            if segment == 0:
                continue
            seen, document = (seen, document) if segment == document else (0, segment)
            bucket = max(i for i, edge in enumerate(edges[:-1]) if edge <= seen)
            if target >= 0:
                sums[bucket], counts[bucket] = sums[bucket] + loss, counts[bucket] + 1
            seen += 1
    return [[edges[i], edges[i + 1], s / n, n] for i, (s, n) in enumerate(zip(sums, counts, strict=True)) if n]


def assert_tables_equal(found, wanted, rel=1e-5):
    assert [[start, stop, tokens] for start, stop, _, tokens in found] == [[a, b, n] for a, b, _, n in wanted]
    np.testing.assert_allclose([row[2] for row in found], [row[2] for row in wanted], rtol=rel)
