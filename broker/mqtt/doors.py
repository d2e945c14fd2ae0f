"""Which listeners a broker has, by its settings."""

from __future__ import annotations

from broker.mqtt.listeners import Listener, tcp
from broker.mqtt.tls import Certificates, tls
from broker.mqtt.websocket import websocket
from core.settings.processes import BrokerSettings


def certificates_of(broker: BrokerSettings) -> Certificates | None:
    """Load the certificates that listeners need, if any does.

    Raises:
        OSError, ssl.SSLError: The files cannot be used.
    """
    if broker.tls_certificate_file is None or broker.tls_key_file is None:
        return None
    if broker.tls_port is None and broker.websocket_tls_port is None:
        return None
    return Certificates(broker.tls_certificate_file, broker.tls_key_file, broker.tls_client_ca_file)


def doors(broker: BrokerSettings, certificates: Certificates | None) -> list[Listener]:
    """Return the listeners; plain MQTT is always among them."""
    shared = broker.processes > 1
    listeners = [tcp(broker.host, broker.port, shared=shared)]
    origins = broker.websocket_origins
    if broker.websocket_port is not None:
        listeners.append(websocket(tcp(broker.host, broker.websocket_port, shared=shared), origins))
    if certificates is None:
        return listeners
    if broker.tls_port is not None:
        listeners.append(tls(broker.host, broker.tls_port, certificates, shared=shared))
    if broker.websocket_tls_port is not None:
        secure = tls(broker.host, broker.websocket_tls_port, certificates, shared=shared)
        listeners.append(websocket(secure, origins))
    return listeners
