"""Runs of automations."""
