"""The environment of programs that tests start."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(devices):
    """As here, but with so many CPU devices."""
    return os.environ | {
        # Of a flag that stands there twice, XLA takes the last.
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
