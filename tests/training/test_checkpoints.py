"""What is saved comes back, on any mesh; what was damaged does not."""

import os
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from memjax.sharding import make_mesh, shardings
from memjax.training.checkpoints import CheckpointStore, restore_parameters, steps_in
from memjax.training.finite import NonFiniteError
from memjax.training.step import TrainState

SHAPES = {"embed/table": (8, 4), "blocks/0/mixer/query/kernel": (2, 4, 64, 64), "final_norm/scale": (4,)}
CONFIG = {"class": "anything"}


def state_at(step: int, seed: int = 0) -> TrainState:
    rng = np.random.default_rng([seed, step])
    parameters = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}
    slots = ({"mu": jax.tree.map(jnp.sin, parameters)}, jnp.int32(step))
    return TrainState(parameters, slots, jnp.int32(step))


def abstract(mesh=None) -> TrainState:
    shapes = jax.eval_shape(lambda: state_at(0))
    layout = shardings(shapes, mesh or make_mesh())
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layout)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with checkpoints at 10, 20 and 30, of which the two newest are kept."""
    run_dir = tmp_path_factory.mktemp("saved")
    with CheckpointStore(run_dir, keep=1) as store:  # one is too few: never fewer than two
        for step in (10, 20, 30):
            store.save(step, state_at(step), {"next": step}, CONFIG)
    return run_dir


@pytest.fixture
def run_dir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


@pytest.fixture
def store(run_dir, lines):
    with CheckpointStore(run_dir, say=lines.append) as store:
        yield store


def test_the_newest_comes_back_bit_for_bit(store, run_dir):
    assert steps_in(run_dir / "checkpoints") == [20, 30]
    restored = store.restore(abstract())
    assert (restored.step, restored.positions) == (30, [{"next": 30}])
    assert_equal(restored.state, state_at(30))


def test_nothing_saved_is_none(tmp_path):
    assert CheckpointStore(tmp_path).restore(abstract()) is None
    assert list(tmp_path.iterdir()) == []


def test_another_mesh(store):
    wanted = abstract(make_mesh(fsdp=4, tensor=2))
    state = store.restore(wanted).state
    assert_equal(state, state_at(30))
    kernel = "blocks/0/mixer/query/kernel"
    assert state.parameters[kernel].sharding == wanted.parameters[kernel].sharding
    assert not state.parameters[kernel].sharding.is_fully_replicated


def test_a_save_survives_the_donation_of_its_arrays(tmp_path):
    overwrite = jax.jit(lambda state: jax.tree.map(lambda x: x * 0, state), donate_argnums=0)
    with CheckpointStore(tmp_path) as store:
        for step in (1, 2):
            state = jax.tree.map(jnp.copy, state_at(step))
            store.save(step, state, None, CONFIG)
            jax.block_until_ready(overwrite(state))
        store.wait()
        assert_equal(store.restore(abstract()).state, state_at(2))


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def truncate(folder):
    os.truncate(largest_file(folder), 100)


def flip_a_bit(folder):
    path = largest_file(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = {
    "truncated": truncate,
    "one bit": flip_a_bit,
    "no data": lambda folder: largest_file(folder).unlink(),
    "emptied": empty,
    "no metadata": lambda folder: (folder / "parameters" / "_METADATA").unlink(),
    "no meta": lambda folder: shutil.rmtree(folder / "meta"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_falls_back_aloud_and_moves_aside(store, run_dir, lines, damage):
    folder = run_dir / "checkpoints"
    DAMAGES[damage](folder / "30")
    restored = store.restore(abstract())
    assert restored.step == 20
    assert_equal(restored.state, state_at(20))
    assert len(lines) == 1 and "checkpoints/30 is damaged" in lines[0] and "step 20" in lines[0]
    assert (folder / "30.damaged").is_dir()
    store.save(30, state_at(30, seed=1), {"next": 30}, CONFIG)  # its place is free again
    store.wait()
    assert_equal(store.restore(abstract()).state, state_at(30, seed=1))


def test_a_change_that_files_cannot_show_is_found_in_the_numbers(store, run_dir, lines, monkeypatch):
    flip_a_bit(run_dir / "checkpoints" / "30")
    monkeypatch.setattr("memjax.training.integrity.verify_files", lambda folder: None)  # as for a file too large to sum
    assert store.restore(abstract()).step == 20
    assert "not what was saved" in lines[0]


def test_no_intact_one_is_an_error_and_stays_as_it_is(store, run_dir):
    folder = run_dir / "checkpoints"
    for step in (20, 30):
        truncate(folder / str(step))
    for _ in range(2):  # the second start must not take the run for a new one
        with pytest.raises(ValueError, match=r"no intact checkpoint \(step 30: .*has changed"):
            store.restore(abstract())
    assert steps_in(folder) == [20, 30]


def test_another_model_is_named_not_taken_for_damage(store, run_dir):
    wanted = abstract()
    wanted.parameters["final_norm/scale"] = jax.ShapeDtypeStruct((5,), jnp.float32)
    with pytest.raises(ValueError, match=r"parameter final_norm/scale has shape \(4,\), not \(5,\)"):
        store.restore(wanted)
    del wanted.parameters["final_norm/scale"]
    with pytest.raises(ValueError, match="parameter final_norm/scale exists in the checkpoint only"):
        store.restore(wanted)
    assert steps_in(run_dir / "checkpoints") == [20, 30]


def test_a_step_on_disk_is_not_written_again(store, run_dir):
    before = (run_dir / "checkpoints" / "30" / "manifest.json").stat().st_mtime_ns
    store.save(30, state_at(30, seed=1), None, CONFIG)
    store.wait()
    assert (run_dir / "checkpoints" / "30" / "manifest.json").stat().st_mtime_ns == before


def test_a_step_on_its_way_to_the_disk_is_not_written_again(store, monkeypatch):
    """As when a signal stops a run at a step that its schedule has just saved."""
    sealing, seal = threading.Event(), store._seal
    monkeypatch.setattr(store, "_seal", lambda: (sealing.wait(30), seal()))
    for seed in (0, 1):
        store.save(40, state_at(40, seed), None, CONFIG)
    sealing.set()
    store.wait()
    assert_equal(store.restore(abstract()).state, state_at(40))


@pytest.mark.parametrize("where", ["parameters", "optimizer"])
def test_numbers_that_are_not_finite_are_never_saved(tmp_path, where):
    state = state_at(5)
    broken = {**state.parameters, "embed/table": state.parameters["embed/table"].at[3, 1].set(jnp.nan)}
    state = state._replace(parameters=broken) if where == "parameters" else state._replace(optimizer={"mu": broken})
    with CheckpointStore(tmp_path) as store, pytest.raises(NonFiniteError, match=r"step 5: .*embed/table"):
        store.save(5, state, None, CONFIG)
    assert steps_in(tmp_path / "checkpoints") == []


def test_unfinished_ones_are_ignored_and_cleared(store, run_dir):
    unfinished = run_dir / "checkpoints" / "40.orbax-checkpoint-tmp"
    shutil.copytree(run_dir / "checkpoints" / "30", unfinished)
    assert store.restore(abstract()).step == 30
    store.clear_unfinished()
    assert not unfinished.exists()
    store.save(40, state_at(40), None, CONFIG)
    store.wait()
    assert store.restore(abstract()).step == 40


def test_reading_parameters_changes_nothing(run_dir, lines, capsys):
    truncate(run_dir / "checkpoints" / "30")
    before = sorted(run_dir.rglob("*"))
    step, parameters = restore_parameters(run_dir, jax.eval_shape(lambda: state_at(0).parameters), lines.append)
    assert step == 20
    assert_equal(parameters, state_at(20).parameters)
    assert len(lines) == 1 and sorted(run_dir.rglob("*")) == before


def test_a_directory_without_checkpoints_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}: holds no checkpoint"):
        restore_parameters(tmp_path, {})
