"""Compiled programs, kept on disk: the next run, seed or evaluation of the same shapes starts at once."""

import os
from pathlib import Path


def keep_compiled_programs() -> None:
    """Keeps them in JAX_COMPILATION_CACHE_DIR, where that is set, and in ~/.cache/memjax/xla where it is not."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(caches / "memjax" / "xla"))
