"""Reports made by hand: every kind of row that a figure or a table is drawn from, and names that want to be tags."""

from typing import Any

Row = dict[str, Any]
NASTY = "<b>\"&'$x_{$</script><script>alert(1)</script>"


def mqar(pairs: int, length: int, accuracy: float, task: str = "mqar", **more: Any) -> Row:
    axes = {"pairs": pairs, "length": length, **more}
    return {"task": task, **axes, "accuracy": accuracy, "chance": 1 / 128, "examples": 10, "axes": list(axes)}


def needle(length: int, depth: float, accuracy: float, variant: str = "single_1") -> Row:
    axes = {"variant": variant, "length": length, "depth": depth}
    return {"task": "needles", **axes, "accuracy": accuracy, "chance": 1e-7, "examples": 10, "axes": list(axes)}


def text(**more: Any) -> Row:
    buckets = [[0, 16, 3.0, 100], [16, 32, 2.5, 100], [32, 64, None, 0]]
    return {
        "task": "text",
        "loss": 2.7,
        "bits_per_byte": 3.9,
        "tokens": 200,
        "bytes": 199,
        "by_position": buckets,
        **more,
    }


def extrapolation(length: int, loss: float) -> Row:
    buckets = [[0, 64, loss + 0.5, 100], [64, length, loss, 100]]
    numbers = {"loss": loss, "bits_per_byte": loss / 0.7, "last_loss": loss - 0.1, "by_position": buckets}
    return {"task": "extrapolation", "length": length, "trained_length": 64, **numbers, "axes": ["length"]}


def decoding(context: int, milliseconds: float, **more: Any) -> Row:
    times = {"prefill_ms_per_token": milliseconds / 10, "decode_ms_per_token": milliseconds}
    memory = {"state_bytes": 2048, "temporary_bytes": 4096, "device": "cpu"}
    return {"task": "decoding", "context": context, "batch": 1, **times, **memory, "axes": ["context"], **more}


def harness(**more: Any) -> Row:
    protocol = "cloze, window centred on the answer, 48 tokens"
    return {"task": "harness/xquad_cloze", "contains": 0.1, "stderr": 0.02, "examples": 9, "protocol": protocol, **more}


def config(*mixers: str, seed: int = 0, output_dir: str = "runs/a", learning_rate: float = 0.01) -> Row:
    """As much of a configuration as a report is drawn from."""
    blocks = [{"mixer": {"class": f"memjax.mixers.some:{mixer}Config"}} for mixer in mixers]
    optimizer = {"learning_rate": learning_rate}
    return {"output_dir": output_dir, "seed": seed, "model": {"blocks": blocks}, "optimizer": optimizer}


def report(*rows: Row, run: str = "quickstart", state_bytes: int = 20_992, **more: Any) -> Row:
    head = {"run": run, "step": 1200, "parameters": 59_656, "state_bytes": state_bytes}
    return {**head, "date": "2026-01-02T03:04:05+00:00", "device": "cpu", "results": list(rows), **more}


def everything(run: str = "quickstart", **more: Any) -> Row:
    """A report with a row for every figure."""
    rows = [mqar(pairs, length, 32 / pairs / length) for pairs in (2, 4) for length in (32, 64)]
    rows += [needle(length, depth, depth / 2) for length in (256, 512) for depth in (0.0, 0.5, 1.0)]
    rows += [text(), extrapolation(64, 2.0), extrapolation(128, 1.9), decoding(64, 1.0), decoding(256, 2.0), harness()]
    found = {"config": config("GatedDeltaNet"), "prompt": f"Once {NASTY}", "continuation": f" upon {NASTY}", **more}
    return report(*rows, run=run, **found)


def log() -> list[Row]:
    """metrics.jsonl of a run that learns to recall two pairs."""
    losses = [{"step": step, "loss": 5 / step} for step in (1, 2, 3)]
    accuracies = [(1, 0.01), (2, 0.6), (3, 0.9)]
    return losses + [{"step": step, "eval/mqar/pairs=2,length=32/accuracy": value} for step, value in accuracies]
