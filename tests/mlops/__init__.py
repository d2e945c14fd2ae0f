"""Features, training, registry, inference."""
