"""What every task's configuration has in common."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Base of every task's `Config`: a frozen value that says which examples `generate` draws.

    It exists so that a data mixture can say "any task" in a type that the command line understands.
    """

    vocab_size: int = 8192
    """Number of distinct token ids; every token lies in [0, vocab_size)."""
