"""Errors of the core; they know nothing of gRPC.

MeshError
├── InvalidDocument   topic, key or payload out of bounds, or a topic of the mesh itself
├── NoRoute           no path of two-way links to the peer now
├── PeerReachable     a peer that is alive, or ourselves, cannot be removed
└── InvalidMessage    a peer sent what no peer may send; closes that link only
"""

from __future__ import annotations


class MeshError(Exception):
    """Any error of the mesh core; the text names the values and what to do."""


class InvalidDocument(MeshError, ValueError):
    """The document cannot be published."""


class NoRoute(MeshError):
    """The peer cannot be reached now."""


class PeerReachable(MeshError):
    """The peer is alive, so its documents stay."""


class InvalidMessage(MeshError, ValueError):
    """A message that is well formed but against the rules."""
