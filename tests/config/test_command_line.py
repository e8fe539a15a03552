"""The command line: every leaf is a flag, wrong usage is one line, --help explains every field."""

import dataclasses
import re

import pytest

from memjax.config import ConfigError, EvaluationConfig, TrainConfig, differences, load_file, parse
from memjax.config.fields import flag, holds_part, leaves
from memjax.data.config import TaskData, TaskSlice, TextData, TfdsData
from memjax.mixers import AttentionConfig, GatedDeltaNetConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks.mqar import MQARConfig

HEAD = """
from memjax.config import *
from memjax.data.config import *
from memjax.mixers import *
from memjax.models import *
from memjax.tasks.mqar import MQARConfig

"""
HYBRID = """
def get_config():
    blocks = (BlockConfig(), BlockConfig(mixer=AttentionConfig(), mlp=None))
    return TrainConfig(
        model=LMConfig(vocab_size=8192, blocks=blocks),
        data=TaskData(train=(TaskSlice(), TaskSlice(task=MQARConfig(pairs=8)))),
        evaluation=EvaluationConfig(tasks=(MQARConfig(), MQARConfig(pairs=2))),
    )
"""


@pytest.fixture
def experiment(tmp_path):
    """Writes a config file and returns its path."""

    def write(body=HYBRID, name="experiment.py"):
        path = tmp_path / name
        path.write_text(HEAD + body)
        return str(path)

    return write


def changed(path, *flags):
    return differences(load_file(path), parse([path, *flags]))


def error(path, *flags):
    with pytest.raises(ConfigError) as info:
        parse([path, *flags])
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.mark.parametrize(
    ("flags", "change"),
    [
        ("--steps 7", "steps: 1000 -> 7"),
        ("--optimizer.learning-rate 1e-2", "optimizer.learning_rate: 0.001 -> 0.01"),
        ("--optimizer.learning_rate=1e-2", "optimizer.learning_rate: 0.001 -> 0.01"),
        ("--optimizer.clip None", "optimizer.clip: 1.0 -> None"),
        ("--init-from other", "init_from: None -> 'other'"),
        ("--mesh.fsdp 2", "mesh.fsdp: 1 -> 2"),
        ("--tensorboard", "tensorboard: False -> True"),
        ("--no-model.tie-embeddings", "model.tie_embeddings: True -> False"),
        ("--model.no-tie-embeddings", "model.tie_embeddings: True -> False"),
        ("--model.tie-embeddings False", "model.tie_embeddings: True -> False"),
        ("--model.blocks.0.mixer.heads 8", "model.blocks.0.mixer.heads: 4 -> 8"),
        ("--model.blocks.0.mlp.hidden 96", "model.blocks.0.mlp.hidden: None -> 96"),
        ("--model.blocks.1.mixer.context 32", "model.blocks.1.mixer.context: 2048 -> 32"),
        ("--data.train.1.examples 100", "data.train.1.examples: None -> 100"),
        ("--data.train.1.task.pairs 5", "data.train.1.task.pairs: 8 -> 5"),
        ("--evaluation.tasks.0.pairs 8", "evaluation.tasks.0.pairs: 4 -> 8"),
        ("--no-evaluation.tasks.1.random-non-queries", "evaluation.tasks.1.random_non_queries: True -> False"),
    ],
)
def test_a_flag_changes_its_field_and_nothing_else(experiment, flags, change):
    assert changed(experiment(), *flags.split()) == [change]


def test_no_flags_give_the_file_and_its_types(experiment):
    path = experiment()
    config = parse([path])
    assert config == load_file(path)
    assert type(config.model.blocks[0].mixer) is GatedDeltaNetConfig
    assert type(config.model.blocks[1].mixer) is AttentionConfig
    assert config.model.blocks[1].mlp is None
    assert isinstance(config.data, TaskData)
    hash(config)


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        ("TextData()", "--data.path P --data.length 32 --data.tokenizer t.json"),
        ("TfdsData(name='lm1b')", "--data.train-split train[:10%] --data.name wiki40b"),
    ],
)
def test_data_of_any_kind_keeps_its_class(experiment, data, flags):
    path = experiment(f"def get_config():\n    return TrainConfig(data={data})")
    config = parse([path, *flags.split()])
    assert type(config.data) is type(load_file(path).data)
    assert len(differences(load_file(path), config)) == flags.count("--")


def test_flags_that_only_fit_together_are_read_together(experiment):
    flags = ["--data.train.0.task.pairs", "32", "--data.train.0.task.length", "256"]
    assert len(changed(experiment(), *flags)) == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--stepz 3", ["unknown flag --stepz", "--steps"]),
        ("--learning-rate 3", ["unknown flag --learning-rate", "--optimizer.learning-rate"]),
        ("--lr 3", ["--optimizer.learning-rate"]),
        ("--model.blocks.7.mixer.heads 3", ["--model.blocks.0.mixer.heads"]),
        ("--no-model.tie-embedings", ["--model.tie-embeddings"]),
        ("--data.path P", ["unknown flag --data.path", "TaskData"]),
        ("--model.blocks.1.mlp None", ["--model.blocks.1.mlp is a part"]),
        ("--steps abc", ["--steps takes an integer, got 'abc'"]),
        ("--steps 1.5", ["--steps takes an integer, got '1.5'"]),
        ("--steps", ["--steps takes an integer, got nothing"]),
        ("--steps 3 4", ["unexpected argument '4'"]),
        ("--optimizer.clip x", ["--optimizer.clip takes a number or None, got 'x'"]),
        ("--optimizer.name sgd", ["--optimizer.name takes adamw or muon, got 'sgd'"]),
        ("--model.tie-embeddings=maybe", ["--model.tie-embeddings is a switch", "'maybe'"]),
        ("--data.train.0.task.pairs 90", ["data.train.0.task", "90 pairs"]),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_flag(experiment, capfd, flags, words):
    message = error(experiment(), *flags.split())
    assert all(word in message for word in words), message
    assert capfd.readouterr() == ("", "")  # nothing of tyro's own report gets through


@pytest.mark.parametrize("argv", [[], ["--steps", "3"], ["-x"]])
def test_without_a_config_file_the_usage_is_shown(argv):
    with pytest.raises(ConfigError, match=r"train\.py CONFIG\.py"):
        parse(argv)


def helped(capsys, argv):
    with pytest.raises(SystemExit) as info:
        parse(argv)
    assert not info.value.code
    return capsys.readouterr().out


def explanations(text):
    """flag -> the words under it in a help text, up to the default."""
    lines = [line.strip("│| ") for line in text.splitlines()]
    found, current = {}, None
    for line in lines:
        if re.match("--?[a-z]", line):
            current = line.split()[0].rstrip(",")
            found[current] = ""
        elif current and line[:1] not in "╭╰─+-":
            found[current] += " " + line
    return {name: re.split(r"\(default:|\(fixed", words)[0].strip() for name, words in found.items()}


CONFIGS = [
    TrainConfig(),
    TrainConfig(data=TextData()),
    TrainConfig(data=TfdsData()),
    TrainConfig(
        model=LMConfig(blocks=(BlockConfig(mixer=AttentionConfig()),)),
        data=TaskData(train=(TaskSlice(), TaskSlice())),
        evaluation=EvaluationConfig(tasks=(MQARConfig(),)),
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=["tasks", "text", "tfds", "attention"])
def test_help_explains_every_leaf(config, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # a narrow terminal breaks long names, a wide one has columns
    monkeypatch.setattr("memjax.config.command_line.load_file", lambda path: config)
    explained = explanations(helped(capsys, ["some.py", "--help"]))
    for leaf in leaves(config):
        if not holds_part(leaf.annotation):
            assert len(explained.pop(flag(leaf.name))) > 8, f"{leaf.name} has no docstring"
    assert set(explained) == {"-h"}  # every flag of tyro is a leaf, so the names of neighbours are complete


def test_help_without_a_file_shows_the_usage_and_the_general_flags(capsys):
    text = helped(capsys, ["--help"])
    assert "train.py CONFIG.py" in text
    assert "--optimizer.learning-rate" in text


def test_help_with_a_file_shows_its_flags(capsys, experiment):
    text = helped(capsys, [experiment(), "--help"])
    assert "--model.blocks.1.mixer.context" in text
    assert "--evaluation.tasks.1.pairs" in text


def test_every_leaf_of_every_kind_is_a_frozen_hashable_value():
    for config in CONFIGS:
        assert hash(config) == hash(dataclasses.replace(config))
        with pytest.raises(dataclasses.FrozenInstanceError):
            config.steps = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_a_mixer_written_in_the_file_has_flags(experiment):
    body = """
import dataclasses
from memjax.types import MixerConfig

@register
@dataclasses.dataclass(frozen=True)
class EchoConfig(MixerConfig):
    '''An echo.'''
    delay: int = 3
    '''Tokens.'''

def get_config():
    return TrainConfig(model=LMConfig(blocks=(BlockConfig(mixer=EchoConfig()),)))
"""
    assert changed(experiment(body), "--model.blocks.0.mixer.delay", "5") == ["model.blocks.0.mixer.delay: 3 -> 5"]
