"""Python environments that a node builds for calls: `uv` runs the program, `folder` keeps what was built, `builder` is used."""
