"""Compiled programs, kept on disk for the next start."""

import os
from pathlib import Path

import jax


def enable_compilation_cache(least_seconds: float = 0.5) -> None:
    """Keep programs that took `least_seconds` to compile in ~/.cache/sfm_jax/xla (or XDG_CACHE_HOME;
    JAX_COMPILATION_CACHE_DIR goes first)."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(base / "sfm_jax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least_seconds)
