"""For tests: the whole system in one thread, in virtual time, over a network that fails on demand (`World`)."""

from easyremote.testing.sim import Fault, Plan, Violation, World, simulate

__all__ = ["Fault", "Plan", "Violation", "World", "simulate"]
