"""`%easyremote`, short: `%er`. Its commands are in `notebook.commands`."""

from __future__ import annotations

from typing import Any

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from easyremote.notebook import commands


@magics_class
class EasyRemoteMagics(Magics):
    """The line magics of one IPython shell."""

    @no_var_expand
    @line_magic
    def easyremote(self, line: str) -> Any:
        """Connect this notebook to nodes; `%easyremote help` lists the commands."""
        return commands.run(commands.Session(self.shell), line)

    @no_var_expand
    @line_magic
    def er(self, line: str) -> Any:
        """Short for %easyremote."""
        return commands.run(commands.Session(self.shell), line)
