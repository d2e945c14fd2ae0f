"""For those who run the platform: health and metrics."""
