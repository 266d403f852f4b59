"""The ring of address blocks and the allocations of this node."""
