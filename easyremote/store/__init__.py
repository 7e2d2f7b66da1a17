"""What must survive the gateway's process: its journal of jobs, in SQLite, and files for large payloads beside it."""
