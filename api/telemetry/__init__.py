"""Measurements, as people read them."""
