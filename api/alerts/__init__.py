"""Alert definitions and alarms."""
