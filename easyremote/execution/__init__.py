"""Runs functions: the owner's own in threads of the node's process, what came over the wire in worker processes."""
