"""End-to-end tests on a real Kubernetes of several nodes on this machine: `make e2e`."""
