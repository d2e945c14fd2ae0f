"""Effects of automations."""
