"""Desired kernel state and path choice: no I/O, no clock, no randomness of its own."""
