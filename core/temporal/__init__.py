"""Everything about Temporal that more than one part needs.

`names` and `contracts` are pure and may be imported by workflows; `client` and `starts` do I/O.
"""
