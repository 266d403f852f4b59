"""Mesh links on TCP: framing, greeting, TLS, hello, verdict, frames (docs/adr/0001)."""
