"""Tests of workers.stack."""
