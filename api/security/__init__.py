"""Who calls, and what they may do: passwords, tokens, sessions, throttling, permissions."""
