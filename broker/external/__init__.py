"""Ingest from somebody else's MQTT broker: the same path into the database, another way in."""
