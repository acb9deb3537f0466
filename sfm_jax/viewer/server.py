"""The browser page's server: on this machine only."""

import contextlib
import io
import socket

HOST = "127.0.0.1"
MISSING = "viser is missing, expected it installed: pip install -e .[view]"


def open_server(port: int, title: str):
    """A viser server at http://127.0.0.1:port, which serves its page itself and asks nothing of the network.

    Raises:
      ValueError: viser is missing, or the port is in use or none.
    """
    try:
        import viser
    except ImportError:
        raise ValueError(MISSING) from None

    class LocalServer(viser.ViserServer):
        def request_share_url(self, verbose: bool = True) -> None:
            """viser's tunnel would show the page to the world, and any page in the browser may ask for it."""

    check_port(port)
    with contextlib.redirect_stdout(io.StringIO()):  # the command itself says where it is
        server = LocalServer(host=HOST, port=port, label=title, verbose=False)
    if server.get_port() != port:  # viser moves on to the next where someone was quicker
        close_server(server)
        raise ValueError(_taken(port))
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    server.gui.main_panel.dock_right()
    return server


def close_server(server) -> None:
    """Quietly."""
    with contextlib.redirect_stdout(io.StringIO()):
        server.stop()


def check_port(port: int) -> None:
    """ValueError unless a server can listen there."""
    if not 1 <= port <= 65535:
        raise ValueError(f"--port: found {port}, expected 1 to 65535")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a page just closed keeps no port
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise ValueError(f"--port: {port} is reserved to the administrator, expected one above 1023") from None
        except OSError:
            raise ValueError(_taken(port)) from None


def _taken(port):
    return f"--port: {port} is in use, expected a free one; try --port {port % 65535 + 1}"
