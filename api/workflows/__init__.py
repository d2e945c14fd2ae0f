"""Automations, their versions and runs."""
