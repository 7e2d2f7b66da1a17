"""How what people hold shows itself in a notebook. The faces stand above it, so they are found by name, when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from easyremote.presenting import running_ipython

_MONITOR = "easyremote.notebook.monitor"


def monitor(client: Any, cluster: Any = None, language: str | None = None) -> Any:
    """A monitor of this client's gateway; `cluster`: whose processes it may show the logs of, and end."""
    return importlib.import_module(_MONITOR).Monitor(client, cluster, language)


def show(held: Any, client: Any, cluster: Any = None) -> None:
    """Show a client or a cluster as the last value of a cell: a monitor in a notebook, else its repr."""
    shell = running_ipython()
    if client is None or client.is_closed or not hasattr(shell, "kernel"):
        print(repr(held))
    else:
        monitor(client, cluster)._ipython_display_()
