"""`easyremote environments`: what nodes of this user have built on this machine, and room made again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from easyremote import foreign
from easyremote.cli.exits import tell
from easyremote.cli.json_text import json_text
from easyremote.cli.status import WIDTH_OF_PIPES
from easyremote.errors import EasyRemoteError, UsageError
from easyremote.execution.environments.folder import EnvironmentFolder, Kept
from easyremote.sizes import format_size, format_span

_ID_DIGITS = 8


def run(ids: Sequence[str], remove: bool, remove_unused: bool, as_json: bool) -> None:
    """What `easyremote environments` was asked for. Raises UsageError for ids of none, and for what can't go together."""
    folder = EnvironmentFolder()
    if remove_unused:
        if ids or remove:
            raise UsageError(
                "--remove-unused removes all that nothing runs in; leave it away to remove some by their ids"
            )
        _remove_unused(folder, as_json)
    elif remove:
        if not ids:
            raise UsageError("--remove takes ids, as 'easyremote environments' shows them; or say --remove-unused")
        _remove(folder, _chosen(folder, ids), as_json)
    else:
        _show(folder, _chosen(folder, ids) if ids else folder.kept(), as_json, bool(ids))


def _chosen(folder: EnvironmentFolder, ids: Sequence[str]) -> list[Kept]:
    """Those that these ids, or their first digits, name; each once."""
    kept = folder.kept()
    found: dict[str, Kept] = {}
    for said in ids:
        fitting = [environment for environment in kept if said and environment.key.startswith(said.lower())]
        if not fitting:
            raise UsageError(f"no environment '{said[:40]}' is in {folder.root}; 'easyremote environments' lists them")
        if len(fitting) > 1:
            several = ", ".join(environment.key for environment in fitting[:5])
            raise UsageError(f"'{said[:40]}' are the first digits of several: {several}; say more of them")
        found[fitting[0].key] = fitting[0]
    return list(found.values())


# ---- showing ---------------------------------------------------------------------------------------------------------


def _show(folder: EnvironmentFolder, found: Sequence[Kept], as_json: bool, in_full: bool) -> None:
    facts = [_facts(folder, environment) for environment in found]
    if as_json:
        for each in facts:
            print(json_text(each))
        return
    if not facts:
        tell(f"No environments are in {folder.root}. Nodes build them for functions and cells that ask for packages.")
        return
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_OF_PIPES)
    console.print(view(facts, time.time()))
    if in_full:
        for each in facts:
            console.print(Text(f"{each['id'][:_ID_DIGITS]} is {each['path']} and has"), soft_wrap=True)
            console.print(Text("  " + foreign.name(", ".join(each["packages"]) or "nothing that is known", 10_000)))
        return
    console.print(
        Text(f"With what was downloaded they take {format_size(folder.size())} in {folder.root}", "dim"), soft_wrap=True
    )


def _facts(folder: EnvironmentFolder, environment: Kept) -> dict[str, Any]:
    """What programs are told of one."""
    facts = environment.facts
    return {
        "id": environment.key,
        "requirements": list(facts.get("requirements", ())),
        "python": facts.get("python", ""),
        "for_cells": bool(facts.get("for_cells", False)),
        "packages": list(facts.get("packages", ())),
        "size_bytes": folder.size(environment.path),
        "built": facts.get("built"),
        "used": environment.used,
        "in_use": folder.is_in_use(environment.key),
        "whole": folder.is_whole(environment.key),
        "path": str(environment.path),
    }


def view(facts: Sequence[dict[str, Any]], now: float) -> Table:
    """What a person sees."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Id", no_wrap=True)
    table.add_column("Packages", overflow="fold")
    table.add_column("Python", no_wrap=True)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Used last", no_wrap=True)
    for each in facts:
        ago = f"{format_span(max(now - each['used'], 0))} ago"
        table.add_row(
            each["id"][:_ID_DIGITS],
            Text(_packages(each), "cyan" if each["whole"] else "red"),
            foreign.name(str(each["python"])),
            format_size(each["size_bytes"]),
            Text("in use", "green") if each["in_use"] else Text(ago),
        )
    return table


def _packages(facts: dict[str, Any]) -> str:
    if not facts["whole"]:
        return f"damaged, and built anew when it is asked for ({_asked(facts['requirements'])})"
    return _asked(facts["requirements"]) + " (for cells)" * facts["for_cells"]


def _asked(requirements: Sequence[str]) -> str:
    return foreign.name(", ".join(requirements), 300) or "no packages"


# ---- removing --------------------------------------------------------------------------------------------------------


def _remove(folder: EnvironmentFolder, chosen: Sequence[Kept], as_json: bool) -> None:
    """Raises EasyRemoteError where one is in use; the others are gone then."""
    before = folder.size()
    gone = [environment for environment in chosen if folder.remove(environment.key)]
    _tell_gone(gone, before - folder.size(), as_json)
    if gone and not as_json:
        tell("What was downloaded for it is kept for the next; --remove-unused forgets that too.")
    if stays := [environment for environment in chosen if environment not in gone]:
        raise EasyRemoteError(
            f"{', '.join(map(_named, stays))}: in use, and stays. A node lets go of it about a minute after its last "
            "call, or when it stops"
        )


def _remove_unused(folder: EnvironmentFolder, as_json: bool) -> None:
    before = folder.size()
    gone = folder.remove_unused()
    _tell_gone(gone, before - folder.size(), as_json)
    if as_json:
        return
    if not gone:
        tell("No environment was without use.")
    for stays in folder.kept():
        tell(f"{_named(stays)} is in use, and stays.")


def _tell_gone(gone: Sequence[Kept], freed: int, as_json: bool) -> None:
    if as_json:
        print(json_text({"removed": [environment.key for environment in gone], "freed_bytes": freed}))
        return
    for environment in gone:
        print(f"Removed {_named(environment)}.")
    if freed > 0:
        print(f"{format_size(freed)} of the disk are free again.")


def _named(environment: Kept) -> str:
    return f"{environment.key[:_ID_DIGITS]} ({_asked(environment.facts.get('requirements', ()))})"
