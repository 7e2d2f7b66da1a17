"""Decides everything and does nothing: no socket, clock, thread, file or random source of its own.

Three state machines meet over a wire that the tests can replace: `Broker` (the gateway), `NodeSession` and `ClientSession`
(the two ends). Each takes frames and the time and gives back actions.
"""
