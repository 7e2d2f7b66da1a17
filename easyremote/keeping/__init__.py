"""Jobs: calls that the gateway keeps on disk until they are collected, and runs as a client of its own broker."""
