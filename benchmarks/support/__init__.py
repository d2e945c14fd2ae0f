"""What the benchmarks share: servers of their own, a fleet, load, and the form of the result."""
