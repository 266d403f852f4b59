"""Every kernel change of the data plane: devices, routes, NAT, encryption, path probes."""
