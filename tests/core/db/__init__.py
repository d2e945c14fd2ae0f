"""Tests of `core.db`."""
