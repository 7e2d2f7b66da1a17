"""Moves batches between a gRPC stream and a state machine, and decides nothing about calls."""
