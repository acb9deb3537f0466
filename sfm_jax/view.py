"""Look at a face model, at reconstructed faces or at a finished run, in the browser.

    python -m sfm_jax.view                       the embedded face model
    python -m sfm_jax.view runs/stage1           what a run learned, beside the model it started from
    python -m sfm_jax.view model.npz             any model file
    python -m sfm_jax.view faces                 the faces of photos: faces/NAME/params.npz

Prints the address, which only this machine can reach; Ctrl-C ends it. Nothing is downloaded. Needs viser:
pip install -e .[view].

Exit code 0: ended by Ctrl-C or SIGTERM; 2: bad input, one line says what.
"""

import argparse
import signal
import sys
import threading
import webbrowser

from sfm_jax.command_line import Parser, refuse

PORT = 8080


def main(argv: list[str] | None = None) -> int:
    """Run until it is ended; returns the exit code."""
    try:
        arguments = read_command_line(sys.argv[1:] if argv is None else argv)
        # JAX is imported only for a command line that is right.
        from sfm_jax.training.compilation import enable_compilation_cache
        from sfm_jax.viewer.app import Viewer
        from sfm_jax.viewer.server import HOST, check_port
        from sfm_jax.viewer.subject import open_subject

        enable_compilation_cache(least_seconds=0.0)  # many small programs, and someone who waits for them
        check_port(arguments.port)
        subject = open_subject(arguments.subject)
        viewer = Viewer(subject, arguments.port)
    except (ValueError, OSError) as error:
        return refuse(error)
    address = f"http://{HOST}:{arguments.port}"
    print(f"{subject.name}: {address} (Ctrl-C ends it)", flush=True)
    if arguments.browser:
        webbrowser.open(address)
    _wait()
    viewer.stop()
    return 0


def read_command_line(argv: list[str]) -> argparse.Namespace:
    """subject, port, browser. ValueError for what is none of them."""
    parser = Parser(prog="python -m sfm_jax.view", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subject", nargs="?", metavar="MODEL|RESULT|WORKDIR",
                        help="a model npz, reconstructed faces, or a run's workdir; the embedded model if none")
    parser.add_argument("--port", type=int, default=PORT, help=f"of the page, {PORT} if none")
    parser.add_argument("--browser", action=argparse.BooleanOptionalAction, default=False,
                        help="open the page in the browser, too")
    return parser.parse_args(argv)


def _wait():
    """Until Ctrl-C or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


if __name__ == "__main__":
    sys.exit(main())
