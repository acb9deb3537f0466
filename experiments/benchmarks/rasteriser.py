"""How fast the renderer is: forward, forward + backward, by mesh and image size; memory; compile time; against a peer.

    python -m experiments.benchmarks.rasteriser                   # host: three meshes, hard and soft edges, batches
    python -m experiments.benchmarks.rasteriser --quick --json=F  # two minutes; medians and ratios by name into F
    python -m experiments.benchmarks.rasteriser --device          # accelerator: batches, sizes, meshes, backends
    python -m experiments.benchmarks.rasteriser --peer-python=P   # and jaxrenderer, in another environment

jaxrenderer 0.3.2 needs jax 0.4.13 and NumPy 1: P is the Python of such an environment; rounds of both alternate.
Contenders of one table are interleaved in one process, and every image is checked for overflow.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import trimesh

from experiments.benchmarks.timing import medians
from experiments.results import machine, markdown_table, write_result
from sfm_jax.geometry.camera import frame
from sfm_jax.geometry.rotation import rotation_from_6d
from sfm_jax.morphable.default import load_default
from sfm_jax.render import check_overflow, render, suggest_caps, surface
from sfm_jax.render.visibility import BACKENDS, fastest_backend

PEER = Path(__file__).with_name("peer_jaxrenderer.py")


class Scene:
    """A mesh, its caps for one image size over all poses, and jitted functions of (vertices, cameras [B])."""

    def __init__(self, vertices, triangles, size, edge_width, backend=None):
        self.vertices, self.size = jnp.asarray(vertices, jnp.float32), (size, size)
        self.surface = surface(triangles)
        self.triangles = triangles
        caps = suggest_caps(self.vertices, self.surface, self.size, edge_width, backend=backend or fastest_backend())
        colours = 0.5 + 0.5 * jnp.sin(self.vertices / 20.0)

        def image(vertices, camera):
            return render(vertices, self.surface, camera, self.size, albedo=colours, edge_width=edge_width, caps=caps,
                          backend=backend)

        def loss(vertices, cameras):
            drawn = jax.vmap(image, (None, 0))(vertices, cameras)
            return jnp.mean(drawn.colour**2) + jnp.mean(drawn.alpha**2)

        self.draw = jax.jit(jax.vmap(image, (None, 0)))
        self.forward = jax.jit(loss)
        self.backward = jax.jit(jax.value_and_grad(loss))

    def cameras(self, count, seed=0):
        six = jax.random.normal(jax.random.key(seed), (count, 6))
        return jax.vmap(lambda s: frame(self.vertices, self.size, rotation_from_6d(s)))(six)

    def check(self, poses=50):
        """ValueError if any of some random poses lost a fragment."""
        cameras = self.cameras(poses, seed=1)
        for k in range(poses):
            check_overflow(self.draw(self.vertices, jax.tree.map(lambda x, k=k: x[k:k + 1], cameras)))


def meshes():
    """{name: (vertices, triangles)}: both levels of the embedded face, and the finer one subdivided once more."""
    found = {}
    for detail, name in ((0, "3.6k"), (1, "14k")):
        model = load_default(detail)
        found[name] = np.asarray(model.mean), model.topology.triangles
    found["57k"] = trimesh.remesh.subdivide(*found["14k"])
    return found


def host(quick):
    """By name: median seconds, bytes of temporary memory, seconds of compilation."""
    cases = [("3.6k", 112), ("14k", 224)]
    if not quick:
        cases += [("3.6k", 224), ("14k", 112), ("57k", 224)]
    every, contenders, memory, compiling = meshes(), {}, {}, {}
    for mesh, size in cases:
        for edges, width in (("hard", 0.0), ("soft", 2.0)):
            scene = Scene(*every[mesh], size, width)
            scene.check(10 if quick else 50)
            for batch in (1, 8):
                arguments = scene.vertices, scene.cameras(batch)
                for what in ("forward", "backward"):
                    name = f"{mesh}/{size}px/{edges}/batch{batch}/{what}"
                    function = getattr(scene, what)
                    contenders[name] = lambda f=function, a=arguments: f(*a)
                    begin = time.perf_counter()
                    compiled = function.lower(*arguments).compile()
                    compiling[name] = time.perf_counter() - begin
                    memory[name] = compiled.memory_analysis().temp_size_in_bytes
    return medians(contenders, 5 if quick else 15), memory, compiling


def against_peer(python, rounds=3):
    """Seconds of one 112 px image of the 3.6k mesh, forward and with gradients: (ours, the peer's)."""
    vertices, triangles = meshes()["3.6k"]
    scene = Scene(vertices, triangles, 112, 2.0)
    cameras = scene.cameras(1)
    ours, theirs = {"forward": [], "backward": []}, {"forward": [], "backward": []}
    with tempfile.TemporaryDirectory() as folder:
        mesh = Path(folder) / "mesh.npz"
        np.savez(mesh, vertices=np.asarray(scene.vertices), triangles=triangles)
        for _ in range(rounds):
            mine = medians({"forward": lambda: scene.forward(scene.vertices, cameras),
                            "backward": lambda: scene.backward(scene.vertices, cameras)}, 10)
            output = subprocess.run([python, str(PEER), str(mesh), "112"], capture_output=True, text=True, check=True)
            peer = json.loads(output.stdout.splitlines()[-1])
            for name in ours:
                ours[name].append(mine[name])
                theirs[name].append(peer[name])
    return ({name: float(np.median(values)) for name, values in side.items()} for side in (ours, theirs))


def device():
    """Rows [vertices, px, batch, edges, backend, images/s forward, with gradients, GB/s of device memory]."""
    every, backend = meshes(), fastest_backend()
    sizes = [("14k", 224, batch) for batch in (1, 4, 16, 64, 256)]
    sizes += [("14k", 112, 64), ("14k", 512, 64), ("3.6k", 224, 64), ("57k", 224, 64)]
    cases = [(*size, edges, backend) for size in sizes for edges in ("hard", "soft")]
    cases += [("14k", 224, 64, "soft", other) for other in BACKENDS if other != backend]

    def scene(which):
        mesh, size, edges, backend = which
        made = Scene(*every[mesh], size, {"hard": 0.0, "soft": 2.0}[edges], backend)
        made.check()
        return made

    def compiled(case):
        mesh, size, batch, *rest = case
        made = scenes[mesh, size, *rest]
        arguments = made.vertices, made.cameras(batch)
        return [(function.lower(*arguments).compile(), arguments) for function in (made.forward, made.backward)]

    with ThreadPoolExecutor() as pool:  # compiling takes longest
        different = list(dict.fromkeys((mesh, size, *rest) for mesh, size, _, *rest in cases))
        scenes = dict(zip(different, pool.map(scene, different), strict=True))
        programs = list(pool.map(compiled, cases))
    rows = []
    for case, pair in zip(cases, programs, strict=True):
        forward, backward = (medians({"": lambda f=function, a=arguments: f(*a)}, 20)[""]
                             for function, arguments in pair)
        moved = pair[1][0].cost_analysis()["bytes accessed"]
        rows.append([*case, case[2] / forward, case[2] / backward, moved / backward / 1e9])
        print(*rows[-1], flush=True)
    return rows


def summary(times, memory, compiling):
    """The flat numbers by name."""
    flat = {}
    for name, median in times.items():
        flat |= {f"{name}/ms": 1e3 * median, f"{name}/compile_s": compiling[name]}
        flat[f"{name}/temp_mb"] = memory[name] / 1e6
    for case in dict.fromkeys(name.rsplit("/", 2)[0] for name in times):
        one, eight = times[f"{case}/batch1/backward"], times[f"{case}/batch8/backward"]
        flat[f"{case}/batch8_over_batch1"] = eight / one
    return flat


def table(values: dict) -> str:
    """values: flat numbers by name, as `summary` gives them, and the peer's where it was measured; or "rows" of
    `device`."""
    if "rows" in values:
        rows = [[*row[:5], *(f"{number:.0f}" for number in row[5:])] for row in values["rows"]]
        return markdown_table(["vertices", "image, px", "batch", "edges", "backend", "images a second",
                               "with gradients", "GB/s"], rows)
    rows = []
    for name in values:
        case, _, what = name.rpartition("/")
        if what != "batch8_over_batch1":
            continue
        one = f"{case}/batch1/backward"
        rows.append([*case.split("/"), f"{values[f'{case}/batch1/forward/ms']:.1f}", f"{values[f'{one}/ms']:.1f}",
                     f"{values[name]:.1f}", f"{values[f'{one}/temp_mb']:.0f}", f"{values[f'{one}/compile_s']:.1f}"])
    text = markdown_table(["vertices", "image", "edges", "forward, ms", "with gradients, ms", "batch 8 / batch 1",
                           "memory, MB", "compile, s"], rows)
    peer = "peer/jaxrenderer/"
    if f"{peer}forward/ms" not in values:
        return text
    theirs = [values[f"{peer}{way}/ms"] for way in ("forward", "backward")]
    times = [their / values[f"3.6k/112px/soft/batch1/{way}/ms"]
             for their, way in zip(theirs, ("forward", "backward"), strict=True)]
    return (f"{text}\n\nOne 112 px image of the 3.6k mesh, from the front, with texture and light, takes jaxrenderer "
            f"0.3.2 (on jax 0.4.13) {theirs[0] / 1e3:.2f} s, with gradients {theirs[1] / 1e3:.2f} s: {times[0]:.0f} "
            f"and {times[1]:.0f} times ours with soft edges, without either.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", help="write the medians and ratios here, and leave the results alone")
    parser.add_argument("--device", action="store_true")
    parser.add_argument("--peer-python", help="a Python that has jaxrenderer")
    flags = parser.parse_args()
    if flags.device:
        values = {"machine": machine(), "rows": device()}
        print(table(values))
        write_result("rasteriser_device", values, table(values))
        return
    flat = summary(*host(flags.quick))
    if flags.peer_python:
        ours, theirs = against_peer(flags.peer_python)
        flat |= {f"peer/jaxrenderer/{name}/ratio": theirs[name] / ours[name] for name in ours}
        flat |= {f"peer/jaxrenderer/{name}/ms": 1e3 * theirs[name] for name in ours}
    print(table(flat))
    if flags.json:
        Path(flags.json).write_text(json.dumps({"machine": machine()} | flat, indent=1) + "\n")
    elif not flags.quick:
        write_result("rasteriser", {"machine": machine()} | flat, table(flat))


if __name__ == "__main__":
    sys.exit(main())
