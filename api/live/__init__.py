"""Live data over WebSockets: one reader of the bus per process, bounded queues per client."""
