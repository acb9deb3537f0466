"""Write a trained network and its face decoder as programs that need neither this package nor flax, only jax.

    python -m sfm_jax.export --out=exported                  # the weights that come with the package
    python -m sfm_jax.export runs/stage2 --out=exported      # those of a finished run on photos

The folder gets encoder.stablehlo, decoder.stablehlo, mesh.npz, and README.txt and signature.json, which say what goes
in and comes out. Exit code 0: done; 2: bad input, one line says what.
"""

import sys

from sfm_jax.command_line import Parser, refuse

UNKNOWN_LICENCE = "of whoever trained them"


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    try:
        options = _options(argv)
        # JAX is imported only for a command line that is right.
        from sfm_jax.inference import stablehlo

        encoder, params, state, weights = _trained(options)
        sizes = stablehlo.write_programs(options.out, encoder, params, state, weights, options.dtype)
    except ValueError as error:
        return refuse(error)
    for name, size in sizes.items():
        print(f"  {options.out}/{name:<20} {size / 1e6:8.3f} MB")
    return 0


def _options(argv):
    parser = Parser(prog="python -m sfm_jax.export", description=__doc__.splitlines()[0])
    parser.add_argument("workdir", nargs="?", help="of a finished run on photos; without it, the weights that ship")
    parser.add_argument("--out", required=True, help="the folder to write to")
    parser.add_argument("--dtype", default="uint8", choices=("uint8", "float32"), help="of the crops; floats in [0, 1]")
    parser.add_argument("--detail", type=int, choices=(0, 1),
                        help="of the weights that ship: 0 decodes to 3642 vertices, 1 (the default) to 14403")
    options = parser.parse_args(argv)
    if options.workdir and options.detail is not None:
        parser.error("--detail: a run has its own level of detail; expected it without WORKDIR only")
    return options


def _trained(options):
    """(encoder, params, state, what is known of the weights)."""
    if options.workdir:
        from sfm_jax.tasks.finished import load_encoder

        return *load_encoder(options.workdir, "workdir"), {"licence": UNKNOWN_LICENCE}
    from sfm_jax.inference.default_encoder import load_default_encoder, packed_facts

    return *load_default_encoder(1 if options.detail is None else options.detail), packed_facts()


if __name__ == "__main__":
    sys.exit(main())
