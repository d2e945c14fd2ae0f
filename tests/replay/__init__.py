"""Recorded histories of runs, replayed against the workflows as they are now."""
