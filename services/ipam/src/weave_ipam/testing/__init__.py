"""Stand-ins for the services that ipam talks to: a mesh of gossips, Coordination, a router.

They speak real gRPC on real unix sockets and keep the contracts of the protos; what they leave out
is TCP, discovery and time. tests/contract runs one test against them and the real gossip.
"""
