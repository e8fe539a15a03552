"""A model of this library as lm-evaluation-harness sees one (github.com/EleutherAI/lm-evaluation-harness, 0.4.13).

Every text stands behind the tokenizer's end token, as documents do in training (`memjax.data`): contexts of
`loglikelihood` and prompts of `generate_until` as much as an empty context and the start of a rolling text. A recurrent
memory reads a text of any length in one pass, so nothing is truncated and a rolling text has no windows, each token
being conditioned on all before it (attention sees its last `context` tokens), unless `max_length` asks for both.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt32
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from memjax.data.tokenizers import Tokenizer, load_tokenizer
from memjax.evaluation.harness.decoding import Ending, Sampling, continue_rows
from memjax.evaluation.harness.prefixes import Row, make_row
from memjax.evaluation.harness.scoring import Counts, Finished, Scorer
from memjax.evaluation.runs import load_run
from memjax.models import LM

# Arguments of generation that change nothing at these values; at others they ask for what is not here.
NEUTRAL = {"num_beams": 1, "repetition_penalty": 1.0, "length_penalty": 1.0, "num_return_sequences": 1}
UNDERSTOOD = {"until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p", "use_cache"}


class HarnessLM(TemplateLM):
    """The three questions of the harness, put to a model: `lm_eval.evaluate(HarnessLM(model, tokenizer), tasks)`.

    Answers do not depend on which requests share a call, nor on their order. Prefixes that requests share go through
    the model once (`counts` says how much that saved).

    Args:
        model: the model.
        tokenizer: the tokenizer that it was trained with.
        dtype: dtype of the model's matrix products; log-probabilities are float32, sums over a text float64.
        batch_size: rows in one call of the model.
        max_length: tokens that the model may see at once: longer contexts lose their beginning (with the end token),
            rolling texts are cut into disjoint windows, as the harness does for other models. None: no limit.
        max_gen_toks: tokens of a continuation whose request does not say.
        chunk: tokens of a row in one call, a power of two from 16; more is faster and takes more memory.
        seed: of the random numbers of continuations that are sampled.

    Raises ValueError for a model that reads no tokens or not all of the tokenizer's, or a size that cannot be.
    """

    def __init__(
        self,
        model: LM,
        tokenizer: Tokenizer,
        *,
        dtype: str = "float32",
        batch_size: int = 16,
        max_length: int | None = None,
        max_gen_toks: int = 256,
        chunk: int = 256,
        seed: int = 0,
    ):
        super().__init__()
        if not isinstance(model, LM):
            raise ValueError(f"harness: needs a language model, not {type(model).__name__}")
        if model.config.vocab_size < tokenizer.vocab_size:
            known, needed = model.config.vocab_size, tokenizer.vocab_size
            raise ValueError(f"harness: the tokenizer has {needed} tokens, of which the model knows {known}")
        if max_length is not None and max_length < 1:
            raise ValueError(f"harness: max_length must be at least 1, not {max_length}")
        if max_gen_toks < 1:
            raise ValueError(f"harness: max_gen_toks must be at least 1, not {max_gen_toks}")
        self.model, self.tokenizer, self.dtype = model, tokenizer, dtype
        self.max_length, self.max_gen_toks, self.seed = max_length, max_gen_toks, seed
        self._scorer = Scorer(model, batch_size=batch_size, chunk=chunk, dtype=dtype)

    @classmethod
    def from_run(cls, run_dir: str | Path, **options: Any) -> "HarnessLM":
        """The newest checkpoint of a run on text, in the run's compute dtype; `options` are the constructor's.

        Raises as `load_run`, and ValueError for a run that was not trained on text.
        """
        model, config = load_run(run_dir)
        tokenizer = load_tokenizer(config.data)
        assert isinstance(model, LM)  # text is read by nothing else
        return cls(model, tokenizer, **({"dtype": config.compute_dtype, "seed": config.seed} | options))

    @property
    def batch_size(self) -> int:
        return self._scorer.batch_size

    @property
    def counts(self) -> Counts:
        """Tokens asked for and tokens fed since this object was made."""
        return self._scorer.counts

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.end

    @property
    def tokenizer_name(self) -> str:
        """Tells caches of requests apart."""
        return f"memjax-{type(self.tokenizer).__name__}-{self.tokenizer.vocab_size}-{self.tokenizer.end}"

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """Token ids of a text, behind the end token unless `add_special_tokens` is False or the text has it already."""
        ids = self.tokenizer.encode(string)
        end = [self.tokenizer.end]
        return ids if add_special_tokens is False or ids[:1] == end else end + ids

    def tok_decode(self, tokens: Sequence[int], **kwargs: Any) -> str:
        return self.tokenizer.decode(tokens)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """(log-probability of the continuation in nats, whether it is what greedy decoding gives) for each of
        ((context, continuation), context ids, continuation ids)."""
        rows = [self._row(*request) for request in requests]
        answers: list[Any] = [None] * len(rows)
        for number, log_prob, greedy in self._scores(rows, "loglikelihood", disable_tqdm):
            answers[number] = (log_prob, greedy)
            if requests[number][0] is not None:
                self.cache_hook.add_partial("loglikelihood", requests[number][0], answers[number])
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability in nats of each whole text, its first token conditioned on the end token."""
        rows, owners = [], []
        for number, request in enumerate(requests):
            found = self._rolling_rows(self.tok_encode(request.args[0], add_special_tokens=False))
            rows += found
            owners += [number] * len(found)
        totals = [0.0] * len(requests)
        for number, log_prob, _ in self._scores(rows, "loglikelihood_rolling", disable_tqdm):
            totals[owners[number]] += log_prob
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text that follows each context, up to the first of the request's stop strings.

        Raises ValueError for arguments of generation that cannot be honoured.
        """
        given: list[tuple[str, dict[str, Any]]] = [request.arguments for request in requests]
        asked = [generation(arguments, self.max_gen_toks) for _, arguments in given]
        prompts = [self._prompt(context, ending) for (context, _), (_, ending) in zip(given, asked, strict=True)]
        draws = draw_numbers(prompts)
        texts = [""] * len(requests)
        with tqdm(total=len(requests), desc="generate_until", disable=disable_tqdm or None) as bar:
            for sampling in dict.fromkeys(sampling for sampling, _ in asked):
                chosen = [i for i, (own, _) in enumerate(asked) if own == sampling]
                for batch in self._scorer.run([make_row(prompts[i], 0) for i in chosen]):
                    numbers = [chosen[i] for i in batch.requests]
                    last, endings = [prompts[i][-1] for i in numbers], [asked[i][1] for i in numbers]
                    found = self._continue(batch, last, endings, draws[numbers], sampling)
                    for number, text in zip(numbers, found, strict=True):
                        texts[number] = text
                        self.cache_hook.add_partial("generate_until", given[number], text)
                    bar.update(len(numbers))
        return texts

    def _continue(self, batch: Finished, last, endings, draws: np.ndarray, sampling: Sampling) -> list[str]:
        filled = np.concatenate([draws, np.zeros((self.batch_size - len(draws), 2), np.uint32)])
        options: dict[str, Any] = {"seed": self.seed, "draws": filled, "sampling": sampling, "dtype": self.dtype}
        return continue_rows(self.model, batch.state, last, endings, self.tokenizer, **options)

    def _scores(self, rows: Sequence[Row], name: str, quiet: bool) -> Iterable[tuple[int, float, bool]]:
        """(number, log-probability, greedy) of each row, as they are done."""
        with tqdm(total=len(rows), desc=name, disable=quiet or None) as bar:
            for batch in self._scorer.run(rows):
                yield from zip(batch.requests, batch.log_probs.tolist(), batch.greedy.tolist(), strict=True)
                bar.update(len(batch.requests))

    def _row(self, texts: Any, context: list[int], continuation: list[int]) -> Row:
        if not continuation:
            raise ValueError(f"harness: nothing to score, the continuation has no token of its own: {texts}")
        if self.max_length is not None and len(continuation) > self.max_length:
            raise ValueError(f"harness: a continuation of {len(continuation)} tokens, max_length is {self.max_length}")
        ids = context + continuation
        return make_row(ids if self.max_length is None else ids[-(self.max_length + 1) :], len(continuation))

    def _rolling_rows(self, ids: list[int]) -> list[Row]:
        size = self.max_length or max(1, len(ids))
        windows = get_rolling_token_windows(ids, self.prefix_token_id, size, context_len=1)
        return [make_row(context + scored, len(scored)) for context, scored in map(make_disjoint_window, windows)]

    def _prompt(self, context: str, ending: Ending) -> list[int]:
        ids = self.tok_encode(context)
        if self.max_length is None:
            return ids
        room = self.max_length - ending.steps
        if room < 1:
            raise ValueError(f"harness: max_gen_toks={ending.steps} leaves no room in max_length={self.max_length}")
        return ids[-room:]


def generation(arguments: dict[str, Any], steps: int) -> tuple[Sampling, Ending]:
    """What the arguments of a request to `generate_until` ask for; `steps` is the length where they do not say.

    Greedy unless `do_sample` or a temperature says otherwise. Raises ValueError for what cannot be honoured.
    """
    known: dict[str, Any] = dict(normalize_gen_kwargs(arguments, steps))
    for name in known.keys() - UNDERSTOOD:
        if known[name] is not None and known[name] != NEUTRAL.get(name):
            raise ValueError(f"harness: generate_until has no {name}={known[name]!r}")
    ending = Ending(known["max_gen_toks"], tuple(known["until"]))
    if ending.steps < 1:
        raise ValueError(f"harness: max_gen_toks must be at least 1, not {ending.steps}")
    temperature = float(known.get("temperature", 1.0)) if known["do_sample"] else 0.0
    if temperature == 0.0:
        return Sampling(), ending
    sampling = Sampling(temperature, known.get("top_k") or None, known.get("top_p"))  # 0: all of them
    top_k, top_p = sampling.top_k, sampling.top_p
    if temperature < 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError(f"harness: generate_until cannot draw with {sampling}")
    return sampling, ending


def draw_numbers(prompts: Sequence[Sequence[int]]) -> UInt32[np.ndarray, "n 2"]:
    """What chooses the random numbers of each prompt: its tokens, and how many equal ones stand before it."""
    seen: Counter[int] = Counter()
    numbers = []
    for prompt in prompts:
        digest = zlib.crc32(np.asarray(prompt, np.int32).tobytes())
        numbers.append((digest, seen[digest]))
        seen[digest] += 1
    return np.array(numbers, np.uint32).reshape(-1, 2)
