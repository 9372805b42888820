"""Listening sockets, with one line instead of gunicorn's retries and tracebacks."""

import os
import socket
import sys

from gunicorn import sock
from gunicorn.config import Config
from gunicorn.glogging import Logger

ABSTRACT = "\0"  # first character of a Unix socket's name that has no file


def open_listeners(config: Config, log: Logger) -> list[sock.BaseSocket]:
    """Open the sockets of the configuration; exit with one line if one cannot be opened."""
    listeners = []
    for address in config.address:
        try:
            if isinstance(address, str) and address.startswith("@"):
                listeners.append(sock.UnixSocket(ABSTRACT + address[1:], config, log))
            elif isinstance(address, str):
                _check_unused(address)
                listeners.append(sock.UnixSocket(address, config, log))
            else:
                kind = sock.TCP6Socket if ":" in address[0] else sock.TCPSocket
                listeners.append(kind(address, config, log))
        except (OSError, ValueError) as error:
            where = f"unix:{address}" if isinstance(address, str) else "{}:{}".format(*address)
            reason = getattr(error, "strerror", None) or str(error)
            sys.exit(
                f"digits: cannot listen on {where}: {reason.lower()}; "
                "choose another address with DIGITS_HOST and PORT, or with --bind"
            )
    return listeners


def _check_unused(path: str) -> None:
    """Raise OSError if a server listens on a Unix socket; gunicorn would replace its file."""
    with socket.socket(socket.AF_UNIX) as client:
        if client.connect_ex(path) == 0:
            raise OSError(0, "address already in use")


def keep_missing(listeners: list[sock.BaseSocket]) -> None:
    """Keep gunicorn from removing files that do not exist, as those of abstract sockets.

    It would end with a traceback, before it stops the workers.
    """
    for listener in listeners:
        name = listener.sock.getsockname()
        if isinstance(name, bytes | str):
            text = os.fsdecode(name)
            listener.getsockname = lambda text=text: text if os.path.exists(text) else (text, 0)
