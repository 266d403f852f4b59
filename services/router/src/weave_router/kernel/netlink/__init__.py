"""rtnetlink as the router needs it: message codecs and a socket that batches."""
