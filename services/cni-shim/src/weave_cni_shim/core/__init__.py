"""CNI requests, results and the order of an attach: no I/O, no clock, no randomness of its own."""
