"""An invitation as a notebook shows it: the line to paste, with a button that copies it."""

from __future__ import annotations

import html

from easyremote.tables import INDENT, MUTED

_LINE = (
    "flex:1;min-width:16em;max-width:60em;font-family:monospace;font-size:0.92em;padding:0.3em 0.5em;color:inherit;"
    "background:rgba(128,128,128,0.12);border:1px solid rgba(128,128,128,0.4);border-radius:3px"
)
_BUTTON = (
    "font:inherit;font-size:0.92em;padding:0.3em 0.9em;color:inherit;background:rgba(128,128,128,0.18);cursor:pointer;"
    "border:1px solid rgba(128,128,128,0.5);border-radius:3px"
)
_COPY = (
    "const line=this.previousElementSibling,told=()=>{this.textContent='Copied'};line.select();"
    "(navigator.clipboard?navigator.clipboard.writeText(line.value):Promise.reject())"
    ".then(told,()=>{document.execCommand('copy');told()})"
)
"""Without a secure origin a page has no clipboard; the older way works there."""


class InvitationView:
    """`role`, `expires`, `uses`: as they were asked for."""

    def __init__(self, text: str, role: str, expires: str, uses: int, addresses: tuple[str, ...]) -> None:
        self._is_node = role == "node"
        self._line = f"easyremote join {text}"
        self._note = (
            f"A secret, good {'once' if uses == 1 else f'{uses} times'}, for {expires}; it dials {', '.join(addresses)}. It goes "
            "from this output when it is good no more; until then, clear the output before you pass the notebook on."
        )
        self._over = ""

    def end(self, why: str) -> None:
        """Show why it isn't good any more, and the line no more."""
        self._line, self._over = "", f"{why} The line that was here isn't kept; `%easyremote invite` makes another."

    @property
    def _head(self) -> str:
        if self._is_node:
            return "Run this on the machine that is to be a node:"
        return "Run this on the machine of whom you invite (in a notebook: %easyremote connect er1:…):"

    def _repr_html_(self) -> str:
        if self._over:
            return f'<div style="{INDENT}{MUTED}">{html.escape(self._over)}</div>'
        return (
            f'<div style="{INDENT}"><div>{html.escape(self._head)}</div>'
            '<div style="display:flex;gap:0.5em;margin:0.4em 0;flex-wrap:wrap">'
            f'<input readonly aria-label="The line to run there" style="{_LINE}" value="{html.escape(self._line)}">'
            f'<button type="button" style="{_BUTTON}" onclick="{html.escape(_COPY)}">Copy</button></div>'
            f'<div style="{MUTED}">{html.escape(self._note)}</div></div>'
        )

    def __repr__(self) -> str:
        if self._over:
            return self._over
        return f"{self._head}\n\n{self._line}\n\n{self._note}"
