"""Time jaxrenderer on a mesh; run by rasteriser.py with a Python that has it. Prints one line of JSON.

    python peer_jaxrenderer.py MESH.npz SIZE
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from renderer import CameraParameters, LightParameters, ModelObject, Renderer
from renderer.model import Model

ROUNDS = 2


def main(path, size):
    with np.load(path) as file:
        vertices, triangles = jnp.asarray(file["vertices"] / 100.0), jnp.asarray(file["triangles"])
    camera = CameraParameters(viewWidth=size, viewHeight=size, position=jnp.array([0.0, 0.0, 5.0]),
                              target=jnp.zeros(3), up=jnp.array([0.0, 1.0, 0.0]), hfov=40.0, vfov=40.0)
    texture, uv = jnp.full((4, 4, 3), 0.7), jnp.zeros((len(vertices), 2))

    def loss(vertices):
        a, b, c = (vertices[triangles[:, k]] for k in range(3))
        faces = jnp.cross(b - a, c - a)
        normals = jnp.zeros_like(vertices).at[triangles.reshape(-1)].add(jnp.repeat(faces, 3, 0))
        normals = normals / jnp.maximum(jnp.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        model = Model.create(verts=vertices, norms=normals, uvs=uv, faces=triangles, diffuse_map=texture)
        image = Renderer.get_camera_image(objects=[ModelObject(model=model)], light=LightParameters(), camera=camera,
                                          width=size, height=size)
        return jnp.mean(image**2)

    result = {}
    for name, function in (("forward", jax.jit(loss)), ("backward", jax.jit(jax.value_and_grad(loss)))):
        jax.block_until_ready(function(vertices))
        times = []
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            jax.block_until_ready(function(vertices))
            times.append(time.perf_counter() - begin)
        result[name] = float(np.median(times))
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
