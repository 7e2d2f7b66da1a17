"""What the monitor of a notebook and that of a terminal share: words, what is asked of the gateway, and what is shown of it."""
