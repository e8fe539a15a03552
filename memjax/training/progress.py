"""What a person sees of a run: a bar on a terminal, plain lines otherwise."""

import sys
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

_LINE_EVERY = 2.0  # seconds; fast runs do not print every logged step
_SHOWN = {
    "loss": "loss {:.4f}",
    "bits_per_byte": "{:.3f} bits/byte",
    "accuracy": "accuracy {:.3f}",
    "gradient_norm": "gradient norm {:.2f}",
    "learning_rate": "learning rate {:.2e}",
    "tokens_per_second": "{:,.0f} tokens/s",
    "mfu": "mfu {:.1%}",
}


class Progress:
    """Context that shows how far a run is. Uses `say` for lines; a bar only where standard error is a terminal."""

    def __init__(self, start: int, steps: int, say: Callable[[str], None], *, bar: bool | None = None):
        self._say, self._steps = say, steps
        show = sys.stderr.isatty() if bar is None else bar
        self._bar = tqdm(initial=start, total=steps, unit="step", dynamic_ncols=True) if show else None
        self._last_line = -_LINE_EVERY

    def __enter__(self):
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """One more step is dispatched."""
        if self._bar is not None:
            self._bar.update()

    def show(self, step: int, row: Mapping[str, float]) -> None:
        """Shows a row of training metrics; without a bar at most one line every few seconds, and the last one."""
        text = describe(row)
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
        elif time.monotonic() - self._last_line >= _LINE_EVERY or step == self._steps:
            self._last_line = time.monotonic()
            self._say(f"step {step}/{self._steps}  {text}")

    def say(self, line: str) -> None:
        """Prints a line of its own, above the bar if there is one."""
        if self._bar is not None:
            with tqdm.external_write_mode():
                self._say(line)
        else:
            self._say(line)


def describe(row: Mapping[str, float]) -> str:
    """The usual training metrics of a row in words, for a person."""
    return "  ".join(form.format(row[name]) for name, form in _SHOWN.items() if name in row)


def describe_evaluation(values: Mapping[str, float]) -> str:
    """Evaluation results by name; details (names with a slash) are left to the metrics file if there is a summary."""
    short = {name.removeprefix("eval/"): value for name, value in values.items()}
    summary = {name: value for name, value in short.items() if "/" not in name}
    return "  ".join(f"{name} {value:.4g}" for name, value in (summary or short).items())
