"""What the commands share: the parser that doesn't end the kernel, and the notebook that a command works on."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from easyremote.errors import UsageError
from easyremote.notebook.workspace import Workspace, workspace


class HelpShown(Exception):
    """-h was asked for, and has been shown."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong instead of ending the kernel."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `%easyremote help` shows what there is")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise HelpShown


class Session:
    """The notebook that a command works on: its shell's names, and the workspace, which is one for the kernel."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.workspace: Workspace = workspace

    def bind(self) -> str:
        """Bind `client` and `node` where the notebook doesn't use these names for something else. What was done, to say so."""
        names, bound = self.shell.user_ns, self.workspace.bound
        for name, value in (("client", self.workspace.client), ("node", self.workspace.node_handle())):
            taken = name in names and names[name] is not bound.get(name)
            if value is not None and not taken:
                names[name] = bound[name] = value
        return self._names_text()

    def unbind(self) -> None:
        """Take back the names that are still what `bind` made them."""
        bound = self.workspace.bound
        for name, value in bound.items():
            if self.shell.user_ns.get(name) is value:
                del self.shell.user_ns[name]
        bound.clear()

    def _names_text(self) -> str:
        names = self.shell.user_ns
        ours = [f"`{name}`" for name, value in self.workspace.bound.items() if names.get(name) is value]
        others = [f"`{name}`" for name in ("client", "node") if name in names and f"`{name}`" not in ours]
        text = f"; {' and '.join(ours)} {'are' if len(ours) > 1 else 'is'} ready" if ours else ""
        if others:
            text += f"; {' and '.join(others)} left as you defined {'them' if len(others) > 1 else 'it'}"
        return text
