"""Small agreed values (first ring, fences) in a store that all peers share."""
