"""Ingest from Mosquitto and NATS."""
