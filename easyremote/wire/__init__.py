"""Bytes to values and back: the generated messages, the payload codec, and large payloads."""
