"""The CNI verbs, the conflist and the host executable."""
