"""Tests of a whole platform, as `iotlinker up` starts it."""
