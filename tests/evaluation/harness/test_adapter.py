"""lm-evaluation-harness gets the answers of a plain loop over single requests; needs the extra `eval`."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("lm_eval") is None:
    pytest.skip("lm-evaluation-harness is not installed: pip install -e '.[eval]'", allow_module_level=True)

from lm_eval.api.instance import Instance

from memjax.data.tokenizers import ByteTokenizer, FileTokenizer
from memjax.evaluation.harness import HarnessLM
from memjax.evaluation.harness.adapter import draw_numbers, generation
from memjax.evaluation.harness.decoding import Ending, Sampling
from tests.evaluation.harness.plain import (
    BATCH,
    CHUNK,
    letters,
    make_model,
    plain_score,
    plain_text,
    plain_tokens,
    words,
)

END = ByteTokenizer.end

pytestmark = pytest.mark.slow  # test_scoring.py stands for it in the second row of versions


def adapter(model, tokenizer=None, **options) -> HarnessLM:
    return HarnessLM(model, tokenizer or ByteTokenizer(), **({"batch_size": BATCH, "chunk": CHUNK} | options))


def ask(lm: HarnessLM, kind: str, *arguments: tuple) -> list:
    requests = [Instance(kind, {}, arguments, index) for index, arguments in enumerate(arguments)]
    return getattr(lm, kind)(requests, disable_tqdm=True)


def pairs(rng: np.random.Generator) -> list[tuple[str, str]]:
    """(context, continuation): nothing before, much after, choices, questions behind one text. Few row lengths."""
    shared = words(rng, 60)
    found = [("", "x"), ("", letters(rng, 40)), (words(rng, 39), "y"), (words(rng, 130), words(rng, 20))]
    for _ in range(3):
        question = shared + words(rng, 60)
        found += [(question, " " + words(rng, 29)), (question + "  ", words(rng, 28)), (question[:-1], words(rng, 31))]
    return found


def test_loglikelihood(model, rng):
    requests = pairs(rng)
    answers = ask(lm := adapter(model), "loglikelihood", *requests)
    for (context, continuation), (log_prob, greedy) in zip(requests, answers, strict=True):
        spaces = len(context) - len(context.rstrip())  # the harness scores them with the continuation
        ids = [END, *(context + continuation).encode()]
        wanted, wanted_greedy = plain_score(model, ids, len(continuation) + spaces)
        np.testing.assert_allclose(log_prob, wanted, rtol=2e-5)
        assert greedy is wanted_greedy
    assert lm.counts.fed < lm.counts.asked - 8 * 60


def test_greedy_and_one_token_choices(model):
    context = [END, *b"which?"]
    (likely, *_) = plain_tokens(model, context, 1)
    requests = [(None, context, [token]) for token in (likely, 1, 2, 3, 4, 5)]
    answers = adapter(model)._loglikelihood_tokens(requests, disable_tqdm=True)
    assert [greedy for _, greedy in answers] == [True] + [token == likely for token in (1, 2, 3, 4, 5)]
    best = max(range(6), key=lambda i: answers[i][0])
    assert best == 0


def test_loglikelihood_rolling(model, rng):
    texts = [letters(rng, 40), "", letters(rng, 150), "x", letters(rng, 150)]
    answers = ask(adapter(model), "loglikelihood_rolling", *[(text,) for text in texts])
    for text, log_prob in zip(texts, answers, strict=True):
        wanted = plain_score(model, [END, *text.encode()], len(text))[0] if text else 0.0
        np.testing.assert_allclose(log_prob, wanted, rtol=2e-5)


def prompts(rng: np.random.Generator) -> list[str]:
    """Ragged, one empty, one twice, three behind one text, one the beginning of another."""
    shared = letters(rng, 70)
    found = ["", "x", letters(rng, 33), shared, shared + letters(rng, 1), shared + letters(rng, 60)]
    return [*found, found[2], letters(rng, 16)]


def test_generate_until(model, rng, tokenizer):
    contexts, requests, wanted, stopped = prompts(rng), [], [], 0
    for number, context in enumerate(contexts):
        ids = plain_tokens(model, [END, *context.encode()], 40)
        steps = 40 - number
        # A stop string made of what the model says lies across two tokens, and somewhere in a block.
        said = tokenizer.decode(ids[:steps])
        spans = [said[i : i + 2] for i in range(5, len(said) - 1) if "�" not in said[i : i + 2]]
        until = ["nowhere", *spans[number : number + 1]]
        requests.append((context, {"until": until, "max_gen_toks": steps}))
        wanted.append(plain_text(ids[:steps], tokenizer, until))
        stopped += len(wanted[-1]) < len(said)
    assert stopped >= 4
    assert ask(adapter(model), "generate_until", *requests) == wanted


def test_generated_prefixes_are_computed_once(rng):
    shared = letters(rng, 100)
    lm = adapter(make_model("gated_delta_net"))
    ask(lm, "generate_until", *[(shared + c, {"until": ["\n"], "max_gen_toks": 4}) for c in "abcde"])
    # The last token of a prompt is the first that decoding feeds: the end token and the text are what is shared.
    assert (lm.counts.asked, lm.counts.fed) == (5 * 101, 101)


def test_sampling_depends_on_nothing_but_the_request(rng):
    lm = adapter(make_model("attention"), seed=5)
    hot = {"do_sample": True, "temperature": 0.8, "top_k": 20, "until": [], "max_gen_toks": 20}
    requests = [(context, hot) for context in prompts(rng)] + [("x", hot), ("greedy", {"max_gen_toks": 20})]
    drawn = ask(lm, "generate_until", *requests)
    order = [8, 9, 5, 3, 0]
    assert ask(lm, "generate_until", *[requests[i] for i in order[1:]]) == [drawn[i] for i in order[1:]]
    assert drawn[1] != drawn[8]  # a repeat of a request draws anew
    assert ask(lm, "generate_until", requests[1]) == [drawn[1]]
    assert ask(lm, "generate_until", ("x", hot | {"top_k": 1})) == ask(
        lm, "generate_until", ("x", {"max_gen_toks": 20})
    )
    all_of_them = hot | {"top_k": 1000, "top_p": 1.0}
    assert ask(lm, "generate_until", ("x", all_of_them)) == ask(lm, "generate_until", ("x", hot | {"top_k": 0}))
    (even,) = ask(lm, "generate_until", ("x", hot | {"temperature": 1e6, "top_k": None}))
    assert len(set(even)) > 5  # each step draws anew, too
    other = adapter(make_model("attention"), seed=6)
    differ = [a != b for a, b in zip(ask(other, "generate_until", *requests), drawn, strict=True)]
    assert differ == [True] * 9 + [False]


def test_draw_numbers_tell_prompts_and_repeats_apart():
    numbers = draw_numbers([[1, 2], [1], [1, 2], [1, 2]]).tolist()
    assert numbers[0][0] == numbers[2][0] == numbers[3][0] != numbers[1][0]
    assert [repeat for _, repeat in numbers] == [0, 0, 1, 2]


def test_max_length_drops_the_beginning(rng):
    model, tokenizer = make_model("attention"), ByteTokenizer()
    lm = adapter(model, max_length=40)
    context, continuation = words(rng, 100), words(rng, 30)
    ids = [END, *(context + continuation).encode()]
    ((log_prob, _),) = ask(lm, "loglikelihood", (context, continuation))
    np.testing.assert_allclose(log_prob, plain_score(model, ids[-41:], 30)[0], rtol=2e-5)
    # Windows of at most 40 tokens, each predicting what none before it did, from at least one token.
    (log_prob,) = ask(lm, "loglikelihood_rolling", (context + continuation,))
    windows = [(ids[:41], 40), (ids[40:81], 40), (ids[80:121], 40), (ids[90:131], 10)]
    np.testing.assert_allclose(log_prob, sum(plain_score(model, *window)[0] for window in windows), rtol=2e-5)
    (text,) = ask(lm, "generate_until", (context, {"max_gen_toks": 10, "until": []}))
    assert text == plain_text(plain_tokens(model, [END, *context.encode()][-30:], 10), tokenizer, [])


def test_dtype_is_that_of_the_products(rng):
    text = letters(rng, 40)
    model = make_model("attention")
    (exact,) = ask(adapter(model), "loglikelihood_rolling", (text,))
    (rough,) = ask(adapter(model, dtype="bfloat16"), "loglikelihood_rolling", (text,))
    assert 0 < abs(rough / exact - 1) < 2e-2


def test_texts_stand_behind_the_end_token(tmp_path):
    lm = adapter(make_model("attention"))
    assert lm.tok_encode("ab") == [END, 97, 98]
    assert lm.tok_encode("ab", add_special_tokens=False) == [97, 98]
    assert lm.prefix_token_id == lm.eot_token_id == END
    assert lm._encode_pair("ab ", "cd") == ([END, 97, 98], [32, 99, 100])
    assert lm._encode_pair("  ", "c") == ([END], [32, 32, 99])


def test_an_end_token_in_the_text_is_not_doubled(tmp_path):
    lm = adapter(make_model("attention"), word_tokenizer(tmp_path / "words.json"))
    assert lm.tok_encode("</s> a") == lm.tok_encode("a") == [2, 0]


def word_tokenizer(path: Path) -> FileTokenizer:
    """Three tokens: a, b and the end token."""
    import tokenizers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "</s>": 2}, unk_token="a"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    words.save(str(path))
    return FileTokenizer(str(path))


def test_arguments_of_generation():
    assert generation({"until": "\n"}, 7) == (Sampling(), Ending(7, ("\n",)))
    assert generation({"until": ["a"], "max_gen_toks": 3, "temperature": 0.0, "num_beams": 1}, 7)[1] == Ending(
        3, ("a",)
    )
    assert generation({"do_sample": True}, 7)[0] == Sampling(1.0)
    sampled = {"do_sample": True, "temperature": 0.5, "top_k": 4, "top_p": 0.9}
    assert generation(sampled, 7)[0] == Sampling(0.5, 4, 0.9)
    assert generation({"temperature": 0.5}, 7)[0] == Sampling(0.5)
    for wrong in ({"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}, {"temperature": -1.0}):
        with pytest.raises(ValueError, match="cannot draw"):
            generation({"do_sample": True, **wrong}, 7)
    with pytest.raises(ValueError, match="num_beams=4"):
        generation({"num_beams": 4}, 7)
    with pytest.raises(ValueError, match="at least 1"):
        generation({"max_gen_toks": 0}, 7)


def test_requests_that_cannot_be_answered_say_why():
    model = make_model("attention")
    with pytest.raises(ValueError, match="nothing to score"):
        ask(adapter(model), "loglikelihood", ("context", ""))
    with pytest.raises(ValueError, match="max_length is 2"):
        ask(adapter(model, max_length=2), "loglikelihood", ("context", "long"))
    with pytest.raises(ValueError, match="leaves no room"):
        ask(adapter(model, max_length=8), "generate_until", ("context", {"max_gen_toks": 8}))


@pytest.mark.parametrize(("option", "said"), [({"max_length": 0}, "max_length"), ({"max_gen_toks": 0}, "max_gen_toks")])
def test_options_that_cannot_be_are_refused(option, said):
    with pytest.raises(ValueError, match=said):
        adapter(make_model("attention"), **option)


def test_a_vocabulary_too_small_is_refused(tmp_path):
    class Large(ByteTokenizer):
        vocab_size = 1000

    with pytest.raises(ValueError, match="1000 tokens, of which the model knows 257"):
        adapter(make_model("attention"), Large())


def test_answers_are_handed_to_the_cache(rng):
    class Kept:
        def __init__(self):
            self.found = []

        def add_partial(self, name, arguments, answer):
            self.found.append((name, arguments, answer))

    lm, kept = adapter(make_model("attention")), Kept()
    lm.set_cache_hook(kept)
    text, asked = letters(rng, 40), {"until": ["\n"], "max_gen_toks": 3}
    answers = [
        ask(lm, "loglikelihood", ("a", "b")),
        ask(lm, "loglikelihood_rolling", (text,)),
        ask(lm, "generate_until", ("a", asked)),
    ]
    names = ["loglikelihood", "loglikelihood_rolling", "generate_until"]
    arguments = [("a", "b"), (text,), ("a", asked)]
    assert kept.found == [(n, a, answer[0]) for n, a, answer in zip(names, arguments, answers, strict=True)]


def test_a_run_on_text_is_ready_to_ask(text_run):
    directory, model, config = text_run
    lm = HarnessLM.from_run(directory, batch_size=BATCH)
    assert (lm.dtype, lm.seed, lm.batch_size) == (config.compute_dtype, config.seed, BATCH)
    (found,) = ask(lm, "loglikelihood_rolling", ("line 7",))
    np.testing.assert_allclose(found, plain_score(model, [END, *b"line 7"], 6)[0], rtol=2e-5)


def test_a_run_on_a_task_has_no_tokenizer(task_run):
    with pytest.raises(ValueError, match="only text has a tokenizer"):
        HarnessLM.from_run(task_run[0])
