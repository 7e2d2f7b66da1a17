"""Tells what a function, or a cell, would bring along, without sending anything."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import FunctionType
from typing import Any

from easyremote.captures import CapturedItem, CaptureExplanation, NeededModule
from easyremote.errors import UnpicklableError, UsageError
from easyremote.execution import local_modules
from easyremote.execution.confidential import looks_secret
from easyremote.execution.dependencies import Dependencies, Part, Variable
from easyremote.execution.functions import Shipping, payload_of
from easyremote.execution.scanning import scan
from easyremote.sizes import format_size
from easyremote.wire import codec
from easyremote.wire.references import Handle, mentioning, type_text

_LARGEST = 5
"""Variables that are named where something is too large."""

_TYPE_OF_PART = {True: "class", False: "function"}


def explain_function(function: Any, shipping: Callable[[Iterable[str]], Shipping] | None = None) -> CaptureExplanation:
    """Of a function. `shipping`: tells which modules would go along with it."""
    name = str(getattr(function, "__name__", type(function).__name__))
    walk = Dependencies((name, function))
    shipment = shipping(walk.modules) if shipping is not None else None
    versions = shipment.versions if shipment is not None else {}
    return _explanation(name, walk, lambda: payload_of(function, walk, shipment), versions)


def explain_names(
    title: str,
    source: str,
    values: Mapping[str, Any],
    shipping: Callable[[Iterable[str]], Shipping] | None = None,
) -> CaptureExplanation:
    """Of a cell that is sent with these of the notebook's names. `source`: as Python, without magics.

    Raises UsageError for what isn't Python.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UsageError(f"line {error.lineno} of the cell isn't Python: {error.msg}") from None
    walk = Dependencies(*values.items())
    for module in local_modules.imported_by(tree):
        walk.modules.setdefault(module, []).append(title)
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    shipment = shipping(walk.modules) if shipping is not None else None
    bundles = [shipment.bundle] if shipment is not None and shipment.bundle is not None else []
    content = (source, *bundles, title, dict(values), [])
    found = _explanation(title, walk, lambda: codec.encode(content), shipment.versions if shipment is not None else {})
    return replace(found, brings=(*found.brings, *_secret_texts(title, texts)))


def modules_needed(source: str, values: Mapping[str, Any]) -> list[str]:
    """Modules that a cell imports, or that these of the notebook's names need. `source`: as Python; where it isn't, only the
    names are looked at."""
    try:
        imported = local_modules.imported_by(ast.parse(source))
    except SyntaxError:
        imported = []
    return [*imported, *Dependencies(*values.items()).modules]


def _explanation(
    title: str, walk: Dependencies, encode: Callable[[], codec.Encoded], shipped: Mapping[str, str]
) -> CaptureExplanation:
    items = [_variable(variable) for variable in walk.variables] + [_part(part) for part in walk.parts]
    items += [_undefined(name, users) for name, users in walk.undefined.items()]
    items += [item for part in walk.parts for item in _secret_constants(part)]
    total = None
    if not any(item.problem and item.size_bytes is None for item in items):
        try:
            with mentioning():
                total = encode().size
        except UnpicklableError as error:
            items.append(CapturedItem(title, "function", "function", None, (), error.message, error.path))
    modules = needed_modules({**{name: [] for name in shipped}, **walk.modules}, shipped)
    return CaptureExplanation(title, total, walk.version(shipped), tuple(items), tuple(modules))


def _variable(variable: Variable) -> CapturedItem:
    found = scan(variable.value, lambda _: b"")
    problem, path = ("", "") if found.error is None else _why_not(variable)
    is_ref = isinstance(variable.value, Handle)
    return CapturedItem(
        name=variable.name,
        kind=variable.how,
        type=type_text(variable.value),
        size_bytes=None if problem else found.size,
        used_by=tuple(variable.used_by),
        problem=problem,
        path=path,
        secret=looks_secret(variable.name, variable.value),
        note="a Ref: its value is sent once to each node" if is_ref else _changed(variable),
    )


def _why_not(variable: Variable) -> tuple[str, str]:
    """What can't be pickled, in words, and the path to it."""
    try:
        codec.encode(variable.value, variable.name)
    except UnpicklableError as error:
        return error.message.partition(". Leave it out")[0], error.path
    except UsageError as error:
        return error.message, variable.name
    return "", ""  # it is only without its class that it couldn't


def _changed(variable: Variable) -> str:
    if not variable.changed_by:
        return ""
    who = ", ".join(variable.changed_by)
    return f"{who} changes it by 'global {variable.name}': the change stays there, and is gone with its worker"


def _part(part: Part) -> CapturedItem:
    size = codec.encode(part.value.__code__).size if isinstance(part.value, FunctionType) else 0
    kind = _TYPE_OF_PART[isinstance(part.value, type)]
    return CapturedItem(part.name, kind, kind, size, (part.used_by,) if part.used_by else ())


def _undefined(name: str, users: list[str]) -> CapturedItem:
    note = "isn't defined here: a NameError there, unless the code never comes to it"
    return CapturedItem(name, "global", "", 0, tuple(users), note=note)


def _secret_constants(part: Part) -> list[CapturedItem]:
    """Texts in the code itself."""
    constants = part.value.__code__.co_consts if isinstance(part.value, FunctionType) else ()
    return _secret_texts(part.name, [value for value in constants if isinstance(value, (str, bytes))])


def _secret_texts(where: str, texts: Iterable[str | bytes]) -> list[CapturedItem]:
    found = dict.fromkeys(secret for text in texts if (secret := looks_secret("", text)))
    return [CapturedItem(f"a text in {where}", "constant", "str", 0, (where,), secret=secret) for secret in found]


def needed_modules(modules: Mapping[str, list[str]], shipped: Mapping[str, str] | None = None) -> list[NeededModule]:
    """Those besides Python's own, one line for each top-level module."""
    users: dict[str, list[str]] = {}
    for module, names in modules.items():
        users.setdefault(module.partition(".")[0], []).extend(names)
    found = [_module(name, _each_once(names), shipped or {}) for name, names in users.items()]
    return sorted((module for module in found if module is not None), key=lambda module: (module.where, module.name))


def _module(name: str, users: tuple[str, ...], shipped: Mapping[str, str]) -> NeededModule | None:
    origin = local_modules.origin_of(name)
    if origin.where == local_modules.PYTHON or name == "easyremote":
        return None
    is_shipped = name in shipped
    version = local_modules.installed_version(name) if origin.where == local_modules.INSTALLED else ""
    return NeededModule(
        name=name,
        where=origin.where,
        version=shipped.get(name, version)[:12],
        used_by=users,
        shipped=is_shipped,
        path=str(origin.files[0]) if origin.files else "",
    )


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def too_large(name: str, size: int, limit: int, function: Any, arguments: Mapping[str, Any]) -> str:
    """Which variables make a call larger than it may be, in words."""
    parts = [(scan(value, lambda _: b"").size, f"{key} ({type_text(value)})") for key, value in arguments.items()]
    if not isinstance(function, str):
        brings = explain_function(function).brings
        parts += [(item.size_bytes or 0, f"{item.name} ({item.type})") for item in brings if item.kind != "function"]
    largest = sorted(parts, reverse=True)[:_LARGEST]
    listed = ", ".join(f"{what} {format_size(part)}" for part, what in largest if part)
    return (
        f"'{name}' would send {format_size(size)}, more than send_limit={format_size(limit)}: {listed}. client.put(value) sends "
        "a value once for many calls; or make it where the function runs"
    )
