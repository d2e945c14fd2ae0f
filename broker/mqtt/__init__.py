"""The MQTT server: connections, signing in, sessions, and what goes down to devices."""
