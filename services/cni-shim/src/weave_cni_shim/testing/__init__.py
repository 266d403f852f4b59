"""What tests of CNI and of its callers share. Never imported by the service."""
