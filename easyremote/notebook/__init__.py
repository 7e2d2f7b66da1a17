"""EasyRemote in a notebook: `%easyremote`, `%%remote`, and what they show. A face only; every magic has a plain function."""

from __future__ import annotations

from typing import Any

from easyremote import reporting
from easyremote.notebook import stop_button
from easyremote.notebook.auditing import audit_notebook
from easyremote.notebook.completion import matcher
from easyremote.notebook.debugging import give_debug_back, take_debug
from easyremote.notebook.display import local_bar
from easyremote.notebook.magics import EasyRemoteMagics
from easyremote.notebook.remote_magic import RemoteMagics
from easyremote.notebook.running import run_remote

__all__ = ["audit_notebook", "load_ipython_extension", "run_remote", "unload_ipython_extension"]

_MAGICS = (EasyRemoteMagics, RemoteMagics)


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext easyremote`. Loading again replaces the magics and keeps what runs."""
    unload_ipython_extension(ipython)
    ipython.register_magics(*_MAGICS)
    take_debug(ipython)
    reporting.bar_here = local_bar
    ipython.Completer.custom_matchers.append(matcher)
    stop_button.install(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """`%unload_ext easyremote`. What runs goes on; `%easyremote stop` ends it."""
    for instance in [item for item in ipython.configurables if isinstance(item, _MAGICS)]:
        ipython.configurables.remove(instance)
    for kind in ("line", "cell"):
        for name in ("easyremote", "er", "remote"):
            ipython.magics_manager.magics[kind].pop(name, None)
    for magics in _MAGICS:
        ipython.magics_manager.registry.pop(magics.__name__, None)
    give_debug_back(ipython)
    reporting.bar_here = None
    matchers = ipython.Completer.custom_matchers
    matchers[:] = [known for known in matchers if getattr(known, "matcher_identifier", "") != "easyremote"]
    stop_button.uninstall(ipython)
