"""Shared by every process: settings, database, the automation language, Temporal names."""
