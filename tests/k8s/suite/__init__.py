"""What `make e2e` runs, in the order the Makefile gives: one cluster lives through all of it."""
