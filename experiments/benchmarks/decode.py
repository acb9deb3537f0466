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
    values = {"machine": machine(), "vertices": len(model.mean), "seconds": seconds,
              "ratio": seconds["decode"] / seconds["matrix product"]}
    write_result("decode", values, table(values))
    print(table(values))


def table(values: dict) -> str:
    rows = [[name, f"{1e3 * value:.0f} ms"] for name, value in values["seconds"].items()]
    rows.append(["ratio", f"{values['ratio']:.2f}"])
    return markdown_table([f"{COUNT} identities, {values['vertices']} vertices", "median"], rows)


if __name__ == "__main__":
    main()
