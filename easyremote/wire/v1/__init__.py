"""Generated from protos/easyremote/v1 by scripts/generate-protos; not edited by hand."""
