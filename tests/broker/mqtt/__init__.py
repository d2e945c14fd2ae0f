"""The MQTT server."""
