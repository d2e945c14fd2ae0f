"""Why a connection must be closed."""


class MalformedPacketError(Exception):
    """The bytes are not MQTT, or break a rule after which the connection must be closed."""


class DeniedError(Exception):
    """A PUBLISH to a topic that the client may not use; closing is MQTT 3.1.1's only refusal."""
