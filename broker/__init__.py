"""Telemetry enters here: the MQTT broker, device authentication, ingest, triggers."""
