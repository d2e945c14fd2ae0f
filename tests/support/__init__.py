"""Help for tests: real servers, made tenants."""
