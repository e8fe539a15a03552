"""Memory architectures that scale, in JAX: ops, layers, mixers, models, tasks, data, training, evaluation.

Import it before the first computation: XLA reads its flags then, and one keeps a fault of its CPU back end from our
programs. With jax 0.10.2 and 0.11.2 a product that reads a broadcast scalar, such as the zeros of an empty memory, may
become a fusion for the library YNNPACK that multiplies with memory which nobody has written. Results are then wrong by
any factor, and differently so in every process; without these fusions they are right.
"""

import os

__version__ = "0.1.0"

_YNN_FUSIONS = "--xla_cpu_experimental_ynn_fusion_type"


def _avoid_ynn_fusions() -> None:
    """Turns the fusions off in XLA_FLAGS, unless it speaks of them already."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _YNN_FUSIONS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_YNN_FUSIONS}=".strip()


_avoid_ynn_fusions()
