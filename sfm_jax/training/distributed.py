"""Several machines: jax.distributed, JAX's own runtime, started only where the environment says there are several."""

import os

import jax

_SIGNS = ("SLURM_JOB_NUM_NODES", "JAX_COORDINATOR_ADDRESS", "MEGASCALE_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES")


def initialise() -> None:
    """Join the other processes under SLURM, on TPU pods, or where JAX_COORDINATOR_ADDRESS (with JAX_NUM_PROCESSES and
    JAX_PROCESS_ID) names a coordinator; one process alone does nothing."""
    found = {name: os.environ[name] for name in _SIGNS if os.environ.get(name)}
    alone = found.get("SLURM_JOB_NUM_NODES", "1") == "1" and "," not in found.get("TPU_WORKER_HOSTNAMES", "")
    if not found or (alone and not found.keys() - {"SLURM_JOB_NUM_NODES", "TPU_WORKER_HOSTNAMES"}):
        return
    address = found.get("JAX_COORDINATOR_ADDRESS")
    if address is None:
        jax.distributed.initialize()  # JAX reads SLURM's and the TPU's own variables
        return
    try:
        count, index = int(os.environ["JAX_NUM_PROCESSES"]), int(os.environ["JAX_PROCESS_ID"])
    except (KeyError, ValueError):
        raise ValueError("JAX_COORDINATOR_ADDRESS is set, so JAX_NUM_PROCESSES and JAX_PROCESS_ID must be numbers too"
                         ) from None
    jax.distributed.initialize(address, count, index)
