"""Devices behind others, devices that are claimed, profiles that provision devices."""
