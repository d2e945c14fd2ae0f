"""The effects of automations, a file per concern."""
