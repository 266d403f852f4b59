"""The `weave` command: asks and steers the services of one node over their sockets."""
