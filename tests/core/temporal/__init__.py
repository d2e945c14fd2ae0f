"""Tests of `core.temporal`."""
