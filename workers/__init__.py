"""Temporal worker processes, the `iotlinker` command and the embedded stack."""
