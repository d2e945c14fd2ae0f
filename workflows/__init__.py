"""Automation runs here: Temporal workflows, without any I/O import."""
