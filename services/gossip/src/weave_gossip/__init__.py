"""Peers, mesh links, topology and replicated documents."""

# Not from importlib.metadata: it imports the email package, a megabyte, to read a version.
__version__ = "0.1.0"
