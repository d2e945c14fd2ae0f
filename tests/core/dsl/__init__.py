"""The automation language."""
