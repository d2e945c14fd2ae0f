"""Devices: their life, twins and commands."""
