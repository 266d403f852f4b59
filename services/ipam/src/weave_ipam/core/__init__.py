"""Address management without I/O: ring, allocations, election. Effects are returned, never done."""
