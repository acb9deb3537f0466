"""Decoding 1000 identities at detail 1, against the bare matrix product it consists of; in one process, interleaved.

    python -m experiments.benchmarks.decode

Writes experiments/results/decode.{json,md}. The target is at most 1.3 times the matrix product.
"""

import jax
import jax.numpy as jnp

from experiments.benchmarks.timing import medians
from experiments.results import machine, markdown_table, write_result
from sfm_jax.morphable.default import load_default, load_population

COUNT, ROUNDS = 1000, 15


def main():
    model = load_default(1)
    codes = jnp.asarray(load_population().identity[:COUNT])
    matrix = model.identity_basis.reshape(codes.shape[1], -1)
    product = jax.jit(lambda a, b: jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST))
    decode = jax.jit(lambda model, codes: model.decode(codes))
    contenders = {"matrix product": lambda: product(codes, matrix), "decode": lambda: decode(model, codes)}
    seconds = medians(contenders, ROUNDS)
    ratio = seconds["decode"] / seconds["matrix product"]
    rows = [[name, f"{1e3 * value:.0f} ms"] for name, value in seconds.items()] + [["ratio", f"{ratio:.2f}"]]
    table = markdown_table([f"{COUNT} identities, {model.mean.shape[0]} vertices", "median"], rows)
    write_result("decode", {"machine": machine(), "seconds": seconds, "ratio": ratio}, table)
    print(table)


if __name__ == "__main__":
    main()
