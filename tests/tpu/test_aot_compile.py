"""`tpu/aot_compile.py`: a training step compiled for a slice and for a host of GPUs."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
from memjax.config import TrainConfig
from memjax.data import TaskData, TaskSlice, TextData
from memjax.mixers import AttentionConfig
from memjax.models import BlockConfig, LMConfig
from memjax.tasks import mqar

def get_config():
    block = BlockConfig(mixer=AttentionConfig(heads=1), mlp=None)
    model = LMConfig(vocab_size=64, width=512, blocks=(block,), repeats=2)
    data = TaskData(train=(TaskSlice(mqar.Config(vocab_size=64, length=32, pairs=2)),))
    return TrainConfig(model=model, data=data, batch_size=8)
"""


PARAMETERS = 64 * 512 + 2 * 4 * 512**2  # at least: embedding, and four projections a layer


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("aot_compile", ROOT / "tpu" / "aot_compile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.mark.aot
@pytest.mark.parametrize(("topology", "module"), [("v5e-4", "libtpu"), ("h200x4", "jax_cuda13_plugin")])
def test_memory_of_a_step(main, config, capsys, topology, module):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed (extra aot); its CPU twin is the training loop's own tests")
    assert main([config, "--topology", topology]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{topology}: 4 of 4 x ")
    state, results, alias, temporaries, together = (float(x) for x in re.findall(r"(-?[\d.]+) MiB a device", said))
    whole = 3 * 4 * PARAMETERS / 2**20  # the parameters and AdamW's two moments, float32
    assert whole / 4 < state < whole / 3  # over the mesh's default, fsdp, a device holds a part of it
    assert -alias == pytest.approx(results, abs=0.11) and state >= results > 0  # it was donated
    assert together == pytest.approx(state + results + alias + temporaries, abs=0.3)
    assert "all-gather" in said


def test_an_unknown_topology_is_one_line(main, config, capsys):
    assert main([config, "--topology", "v5e-3"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --topology: none is called 'v5e-3'; there are v5e-4|8|16")
    assert error.count("\n") == 1


def test_flags_are_those_of_train(main, config, capsys):
    assert main([config, "--topology", "v5e-4", "--mesh.tensors", "2"]) == 2
    assert "--mesh.tensor" in capsys.readouterr().err
