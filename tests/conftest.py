"""Every test runs on the CPU, so that no test result depends on the machine."""

import os
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of a test's time goes into compiling. XLA's older emitters, and most optimisations left out, take half of it; who
# sets XLA_FLAGS has programs compiled as users' are. Newer releases have no older emitters, and die of the flag.
OLDER_EMITTERS = " --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.10.") else ""
FAST = f"--xla_force_host_platform_device_count=1{OLDER_EMITTERS}"
AS_USERS = os.environ.setdefault("XLA_FLAGS", FAST) != FAST

import jax  # noqa: E402
import pytest  # noqa: E402
import shape_checks  # noqa: E402, F401
import toy  # noqa: E402
from jax.experimental.compilation_cache.compilation_cache import reset_cache  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "allow")
# Folders of pure functions, and the training of them: there, arrays of different dtypes do not mix unsaid.
STRICT = ("geometry", "morphable", "render", "losses", "networks", "training")
# Folders of long tests: of several processes none is left with one of them when the others have nothing to do any more.
FIRST = ("runs", "tasks", "training")


def pytest_collection_modifyitems(items):
    """Long files first."""
    items.sort(key=lambda item: (FIRST + (item.path.parent.name,)).index(item.path.parent.name))


@pytest.fixture(scope="module", autouse=True)
def dtype_promotion(request):
    """JAX's rule for all threads of a test file."""
    rule = "strict" if request.path.parent.name in STRICT else "standard"
    jax.config.update("jax_numpy_dtype_promotion", rule)


@pytest.fixture(scope="module", autouse=True)
def optimisations(request):
    """For all threads of a test file, and for the programs that it starts. None are left out of what the README and the
    tutorials do."""
    name, without = "jax_disable_most_optimizations", not AS_USERS and request.path.parent.name != "tests"
    jax.config.update(name, without)
    # A command that a test of this process called has switched it on; XLA has died of writing such programs down.
    jax.config.update("jax_enable_compilation_cache", not without)
    reset_cache()  # else the process goes on as it once decided
    os.environ[name.upper()] = str(int(without))


@pytest.fixture
def standard_promotion():
    """JAX's own rule, for what optax and flax do: they mix dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module", autouse=True)
def fresh_programs():
    """Every compiled program takes memory maps, of which Linux gives a process 65 530: beyond, LLVM dies."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a small model: 162 vertices."""
    path = tmp_path_factory.mktemp("model") / "toy.npz"
    toy.model(subdivisions=2).save(path)
    return path


@pytest.fixture(scope="session")
def coarse(tmp_path_factory):
    """The workdir of a coarse run, for detail."""
    import tiny_runs

    return tiny_runs.coarse_run(tmp_path_factory.mktemp("coarse") / "run")


@pytest.fixture
def toy_model():
    """A small symmetric model on a sphere mesh: 42 vertices, 6 identity and 3 expression components."""
    return toy.model()
