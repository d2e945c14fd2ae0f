"""The parts of the interpreter of automations. Deterministic: no I/O, no clock, no chance."""
