"""Compiled training programs are kept for the session: most of a training of a tiny set is compiling, and most tests train again."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def kept_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep them in a folder of this process alone, so that no other process reads what is half written."""
    import jax

    folder = tmp_path_factory.mktemp("programs")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    yield folder
    jax.config.update("jax_compilation_cache_dir", None)
