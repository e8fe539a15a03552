"""Numbers that are not finite end a run; this says which step and which parameter it was."""

from collections.abc import Iterable

import numpy as np


class NonFiniteError(ArithmeticError):
    """A loss, a gradient or a parameter became NaN or infinite.

    Attributes:
        step: the update in which it happened, counted from 1.
        parameter: path of the first parameter concerned, "" where only the loss is.
    """

    def __init__(self, step: int, parameter: str, what: str):
        self.step, self.parameter = step, parameter
        super().__init__(f"step {step}: {what}")


def check_step(step: int, loss: float, gradient_norm: float, squares: np.ndarray, names: Iterable[str]) -> None:
    """Raises NonFiniteError unless loss and gradients of a step are finite.

    Args:
        step: number of the update, from 1.
        loss: mean cross-entropy of the step.
        gradient_norm: global norm of its gradient, tables that are trained by rows left out.
        squares: squared norm of each parameter's gradient.
        names: paths of the parameters in the order of `squares`.
    """
    if np.isfinite(loss) and np.isfinite(gradient_norm) and np.isfinite(squares).all():
        return
    bad = [name for name, square in zip(names, squares, strict=True) if not np.isfinite(square)]
    if not bad:
        raise NonFiniteError(step, "", f"the loss is {loss} and the gradient norm {gradient_norm}")
    others = f" and of {len(bad) - 1} more" if len(bad) > 1 else ""
    raise NonFiniteError(step, bad[0], f"the gradient of {bad[0]}{others} is not finite (loss {loss})")
