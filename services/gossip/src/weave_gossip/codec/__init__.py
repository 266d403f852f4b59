"""Protobuf to the values of the core and back."""
