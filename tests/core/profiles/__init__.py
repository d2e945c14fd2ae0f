"""Tests of what profiles say about metrics."""
