"""The web application in a real browser, against the real API."""
