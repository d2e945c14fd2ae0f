"""The broker, against real PostgreSQL and Valkey, with real MQTT clients and raw sockets."""
