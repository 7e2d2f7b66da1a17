"""The command line. A face only: every command calls the same public API that a script has."""
