"""What a device profile says about the metrics of its devices. Pure, no I/O."""
