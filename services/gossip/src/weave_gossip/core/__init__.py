"""The mesh protocol as pure state machines: no I/O, no clock, no randomness of its own."""
