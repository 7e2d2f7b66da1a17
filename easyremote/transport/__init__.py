"""Moves batches between a gRPC stream and a state machine, and decides nothing about calls."""

import os

# What goes wrong is raised, with words; gRPC would write it to standard error as well, e.g. that a port is taken.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
