"""Sparkplug B 3.0: https://sparkplug.eclipse.org/specification/version/3.0/."""
