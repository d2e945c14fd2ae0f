"""Tests of `core.db.repositories`."""
