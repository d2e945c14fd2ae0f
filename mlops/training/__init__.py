"""From telemetry with failures to an evaluated model; every step reads and writes files."""
