"""All SQL, a file per domain."""
