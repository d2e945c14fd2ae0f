"""Devices that speak another platform's language over MQTT, unmodified."""
