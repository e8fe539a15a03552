"""Time per token and memory against context length, as the machine at hand has them.

A prompt of n tokens is read in calls of T tokens, T the length of the rows that the run was trained on, and decoding
goes on from there: the most likely token, `STEPS` of them in one call, a loop on the device as in
`memjax.models.generate`. Every call is waited for, hands its state's memory to the next (donation), and compiling is
not counted. Tokens are random, with a fixed seed: what is computed does not depend on what they say.
"""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from memjax.config import TrainConfig
from memjax.data import StoredData, TaskData
from memjax.data.synthetic import row_length
from memjax.models import LM
from memjax.types import State

DECODING = "decoding"  # the name, among tasks, of what follows
FACTORS = (1, 4, 16)  # contexts over T
LONGEST = 65_536  # tokens; beyond it no context but the first
ROUNDS, CALLS, STEPS = 3, 8, 16  # prompts read; calls of the decoder at each context; tokens in each call
SEED = 0


def decoding(
    model: LM,
    config: TrainConfig,
    *,
    factors: Sequence[int] = FACTORS,
    batch: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """A row of a report for each context length, `factors` times T tokens.

    Args:
        model: the model.
        config: the run's configuration: T is the length of its rows (the longest of a mixture).
        factors: contexts over T, positive and ascending.
        batch: rows that are read and decoded side by side.
        clock: seconds.

    Returns:
        "context" n in tokens, "batch"; "prefill_ms_per_token", of a prompt of n tokens in calls of "chunk" tokens, and
        "decode_ms_per_token" after it: medians of wall time by the tokens of one row; "state_bytes" of all rows after n
        tokens; "temporary_bytes" and "prefill_temporary_bytes", what the two programs need beside parameters and
        state, and "one_call_temporary_bytes", what a call that reads all n tokens at once would need, which is compiled
        but not run (each None where the backend does not tell); "dtype" of matrix products; "device".

    Raises ValueError where batch or a factor is not positive, or factors do not ascend.
    """
    if batch < 1 or not factors or min(factors) < 1 or sorted(set(factors)) != list(factors):
        raise ValueError(f"decoding: batch {batch} and factors {tuple(factors)} must be positive, factors ascending")
    chunk = trained_length(config)
    factors = within(LONGEST // chunk, factors)
    programs = _compile(model, config, batch, chunk)
    _measure(model, programs, [1], clock)  # the first calls do not count
    rounds = [_measure(model, programs, factors, clock) for _ in range(ROUNDS)]
    fixed = {
        "batch": batch,
        "chunk": chunk,
        "dtype": config.compute_dtype,
        "temporary_bytes": _temporaries(programs.decode),
        "prefill_temporary_bytes": _temporaries(programs.prefill),
        "device": jax.devices()[0].device_kind,
        "axes": ["context"],
    }
    return [
        {
            "task": DECODING,
            "context": factor * chunk,
            "prefill_ms_per_token": 1e3 * statistics.median(found.prefill for found in times) / (factor * chunk),
            "decode_ms_per_token": 1e3 * statistics.median(t for found in times for t in found.decode) / STEPS,
            "state_bytes": times[0].state_bytes,
            "one_call_temporary_bytes": _one_call_temporaries(model, config, batch, factor * chunk),
            **fixed,
        }
        for factor, times in zip(factors, zip(*rounds, strict=True), strict=True)
    ]


def trained_length(config: TrainConfig) -> int:
    """Tokens in a row that the run trains on, the longest of a mixture of tasks."""
    if isinstance(config.data, TaskData):
        return max(row_length(part.task) for part in config.data.train)
    assert isinstance(config.data, StoredData)  # a model of tokens trains on tasks or on text
    return config.data.length


def within(most: int, factors: Sequence[int]) -> list[int]:
    """The first of `factors`, and those of the others that are at most `most`."""
    return [factor for factor in factors if factor == factors[0] or factor <= most]


class _Programs(NamedTuple):
    """Compiled; a state that is passed in is gone afterwards.

    Attributes:
        shape: of the tokens that one call of `prefill` reads, (B, T).
        empty: () -> state of no token.
        copy: state -> a state of its own memory.
        prefill: (model, tokens [B, T], state) -> (the next token [B], state).
        decode: (model, token [B], state) -> (the next token but `STEPS` [B], state).
    """

    shape: tuple[int, int]
    empty: Any
    copy: Any
    prefill: Any
    decode: Any


class _Times(NamedTuple):
    """Seconds of the whole prompt and of each call of the decoder, and bytes of the state between the two."""

    prefill: float
    decode: list[float]
    state_bytes: int


def _compile(model: LM, config: TrainConfig, batch: int, chunk: int) -> _Programs:
    state = jax.eval_shape(lambda: model.init_state(batch))
    copy = functools.partial(jax.tree.map, jnp.copy)

    def build(function, *shape: int):
        program = jax.jit(functools.partial(function, dtype=jnp.dtype(config.compute_dtype)), donate_argnums=2)
        return program.lower(model, jax.ShapeDtypeStruct(shape, jnp.int32), state).compile()

    return _Programs(
        shape=(batch, chunk),
        empty=lambda: copy(model.init_state(batch)),
        copy=copy,
        prefill=build(_prefill, batch, chunk),
        decode=build(_decode, batch),
    )


def _prefill(model: LM, tokens: jax.Array, state: State | None, *, dtype: Any) -> tuple[jax.Array, State]:
    hidden, state, _ = model.hidden(tokens, state, taps={}, dtype=dtype)
    return jnp.argmax(model.logits(hidden[:, -1]), axis=-1).astype(jnp.int32), state


def _decode(model: LM, token: jax.Array, state: State, *, dtype: Any) -> tuple[jax.Array, State]:
    step = lambda carry, _: (_prefill(model, carry[0][:, None], carry[1], dtype=dtype), None)
    return jax.lax.scan(step, (token, state), length=STEPS)[0]


def _measure(model: LM, programs: _Programs, factors: Sequence[int], clock: Callable[[], float]) -> list[_Times]:
    """Reads one prompt as long as the longest context, then decodes at every context in turns."""
    state, rng, spent, found, places = programs.empty(), np.random.default_rng(SEED), 0.0, [], []
    for number in range(1, max(factors) + 1):
        tokens = jnp.asarray(rng.integers(model.config.vocab_size, size=programs.shape), jnp.int32)
        (token, state), seconds = _timed(clock, programs.prefill, model, tokens, state)
        spent += seconds
        if number in factors:
            found.append(_Times(spent, [], sum(leaf.nbytes for leaf in jax.tree.leaves(state))))
            places.append((token, programs.copy(state)))
    for _ in range(CALLS):  # in turns: what else the machine does falls on all contexts alike
        for number, (token, state) in enumerate(places):
            places[number], seconds = _timed(clock, programs.decode, model, token, state)
            found[number].decode.append(seconds)
    return found


def _timed(clock: Callable[[], float], program: Callable, *arguments) -> tuple[Any, float]:
    """What the program returns, waited for, and the seconds that took."""
    jax.block_until_ready(arguments)
    started = clock()
    out = jax.block_until_ready(program(*arguments))
    return out, clock() - started


def _one_call_temporaries(model: LM, config: TrainConfig, batch: int, context: int) -> int | None:
    """Bytes beside parameters and result of a call that reads a prompt of `context` tokens from nothing."""
    program = jax.jit(functools.partial(_prefill, state=None, dtype=jnp.dtype(config.compute_dtype)))
    # Memory is planned before machine code is written, so a CPU's compiler need not optimise the latter.
    options: Any = {"xla_backend_optimization_level": "0"} if jax.default_backend() == "cpu" else None
    return _temporaries(program.lower(model, jax.ShapeDtypeStruct((batch, context), jnp.int32)).compile(options))


def _temporaries(program: Any) -> int | None:
    plan = program.memory_analysis()
    return None if plan is None else int(plan.temp_size_in_bytes)
