"""Tests of `core.imports`."""
