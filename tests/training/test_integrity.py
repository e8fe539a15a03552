"""Fingerprints and manifests notice what they are there for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from memjax.sharding import make_mesh
from memjax.training import integrity
from memjax.training.integrity import DamagedError


def test_fingerprints_are_the_same_on_every_mesh(rng):
    values = {"a": rng.normal(size=(8, 6)).astype(np.float32), "b": rng.integers(0, 99, (4,)).astype(np.int32)}
    expected, _ = integrity.fingerprints({name: jnp.asarray(x) for name, x in values.items()})
    mesh = make_mesh(fsdp=4)
    spread = {name: jax.device_put(x, NamedSharding(mesh, PartitionSpec("fsdp"))) for name, x in values.items()}
    assert integrity.fingerprints(spread)[0] == expected
    compiled = jax.device_get(integrity._measure_all(list(spread.values())))  # the way of accelerators
    assert [int(mark) for mark, _ in compiled] == list(expected.values())


def test_one_bit_changes_a_fingerprint(rng):
    x = rng.normal(size=(64,)).astype(np.float32)
    y = x.copy()
    y.view(np.uint32)[17] ^= 1 << 5
    assert integrity.fingerprints({"x": jnp.asarray(x)}) != integrity.fingerprints({"x": jnp.asarray(y)})


def test_arrays_that_are_not_finite_are_named_in_order():
    arrays = {"fine": jnp.ones(3), "nan": jnp.array([1.0, jnp.nan]), "inf": jnp.array(jnp.inf), "count": jnp.int32(7)}
    assert integrity.fingerprints(arrays)[1] == ["nan", "inf"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "small").write_bytes(b"abc")
    (tmp_path / "large").write_bytes(bytes(integrity._CHECKSUM_BELOW))
    integrity.write_manifest(tmp_path)
    return tmp_path


def test_an_untouched_folder_passes(folder):
    integrity.verify_files(folder)
    (folder / "commit_success.txt").write_text("written after the manifest")
    integrity.verify_files(folder)


def test_missing_truncated_and_changed_files_are_named(folder):
    (folder / "d" / "small").write_bytes(b"abd")
    with pytest.raises(DamagedError, match="d/small has changed"):
        integrity.verify_files(folder)
    (folder / "d" / "small").unlink()
    with pytest.raises(DamagedError, match="d/small is missing"):
        integrity.verify_files(folder)


def test_a_large_file_is_held_to_its_size(folder):
    (folder / "large").write_bytes(bytes(integrity._CHECKSUM_BELOW - 1))
    with pytest.raises(DamagedError, match="large has changed"):
        integrity.verify_files(folder)


@pytest.mark.parametrize("text", [None, "{"])
def test_a_missing_or_torn_manifest_is_damage(folder, text):
    path = folder / integrity.MANIFEST
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DamagedError, match="manifest"):
        integrity.verify_files(folder)
