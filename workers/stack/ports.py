"""Finds out before the start that a port is taken, and by whom."""

import errno
import socket

import psutil

from core.errors import ConfigurationError
from workers.stack.service import Service


def require_free_ports(service: Service) -> None:
    """Check that `service` will be able to listen.

    Raises:
        ConfigurationError: A port is taken or may not be used; the message names the port, the
            service, the setting that changes it and, if it can be known, the process that has it.
    """
    for port in service.ports:
        family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as attempt:
            # As servers do; without it, connections that just ended would count as taken.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                attempt.bind((port.host, port.number))
            except OSError as error:
                reason = (
                    f"is taken{_holder(port.number)}"
                    if error.errno == errno.EADDRINUSE
                    else f"cannot be used on {port.host} ({error.strerror})"
                )
                raise ConfigurationError(
                    f"port {port.number} for {service.name} {reason}; "
                    f"choose another with {port.setting}"
                ) from None


def _holder(port: int) -> str:
    """Return " by NAME (process ID)", or nothing where the system does not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or connection.pid is None:
                continue
            if connection.laddr and connection.laddr.port == port:
                process = psutil.Process(connection.pid)
                return f" by {process.name()} (process {process.pid})"
    except psutil.Error:
        return ""
    return ""
