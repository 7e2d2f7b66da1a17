"""What can be known of a function without running it, and how it is shipped."""

from __future__ import annotations

import asyncio
import functools
import inspect
import linecache
import os
import sys
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import Any, NamedTuple, Protocol

from easyremote.errors import BadArguments, EnvironmentMismatch, UsageError
from easyremote.execution.dependencies import VERSION_DIGITS, Dependencies
from easyremote.runtime import python_minor, this_runtime
from easyremote.security.statements import digest_of
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

_MAX_SOURCE_BYTES = 256 * 1024


def function_name(function: Any) -> str:
    """What a callable is called. Raises UsageError where it has no name of its own."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = getattr(inner, "__name__", "")
    if name == "<lambda>" or not name:
        kind = "a lambda" if name else f"a {type(function).__qualname__}"
        raise UsageError(f"{kind} has no name to register under; give one: register(f, name='...')")
    return name


def check_name(name: str) -> str:
    """Raises UsageError for a name that can't be registered."""
    if not 1 <= len(name) <= 200 or not name.isprintable() or name != name.strip():
        raise UsageError(f"a function's name has 1 to 200 printable characters, not {name[:60]!r}")
    return name


def kind_of(function: Any) -> pb.FunctionKind:
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner) and callable(inner):
        inner = type(inner).__call__
    if inspect.isasyncgenfunction(inner):
        return pb.FUNCTION_KIND_ASYNC_GENERATOR
    if asyncio.iscoroutinefunction(inner) or inspect.iscoroutinefunction(inner):
        return pb.FUNCTION_KIND_COROUTINE
    if inspect.isgeneratorfunction(inner):
        return pb.FUNCTION_KIND_GENERATOR
    return pb.FUNCTION_KIND_FUNCTION


def spec_of(function: Any, name: str, **declared: Any) -> pb.FunctionSpec:
    """A record of the function for the registry. `declared` are more fields of it."""
    spec = pb.FunctionSpec(name=name, kind=kind_of(function), doc=_first_paragraph(function), **declared)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return spec
    spec.has_signature = True
    for parameter in signature.parameters.values():
        spec.parameters.append(
            pb.Parameter(
                name=parameter.name,
                kind=int(parameter.kind),
                has_default=parameter.default is not inspect.Parameter.empty,
                default_text=_short(parameter.default),
                annotation_text=_annotation(parameter.annotation),
            )
        )
    return spec


def signature_of(spec: pb.FunctionSpec) -> inspect.Signature | None:
    """The remote function's signature; defaults are stand-ins that show as they do there."""
    if not spec.has_signature:
        return None
    try:
        return inspect.Signature([_parameter(parameter) for parameter in spec.parameters])
    except (ValueError, TypeError):  # its node says what can't be; what it takes is for it to check then
        return None


def _parameter(parameter: pb.Parameter) -> inspect.Parameter:
    return inspect.Parameter(
        parameter.name,
        inspect._ParameterKind(parameter.kind),
        default=_Shown(parameter.default_text) if parameter.has_default else inspect.Parameter.empty,
        annotation=_Shown(parameter.annotation_text) if parameter.annotation_text else inspect.Parameter.empty,
    )


class KnownFunction:
    """A function's record with its signature, made once and used for each call."""

    def __init__(self, spec: pb.FunctionSpec) -> None:
        self.spec = spec
        self.signature = signature_of(spec)
        self._few, self._many = _plain_counts(self.signature)
        self.positional_names = [p.name for p in spec.parameters if p.kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD]

    def check_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises BadArguments when a call with these arguments can't succeed."""
        if self.signature is None or (not kwargs and self._few <= len(args) <= self._many):
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise BadArguments(f"{self.spec.name}{self.signature}: {error}") from None


def _plain_counts(signature: inspect.Signature | None) -> tuple[int, int]:
    """How few and how many positional arguments alone make a call that is right; (1, 0) when none do."""
    parameters = signature.parameters.values() if signature is not None else ()
    positional = [p for p in parameters if p.kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD]
    required = [p for p in positional if p.default is inspect.Parameter.empty]
    if any(p.kind is inspect.Parameter.KEYWORD_ONLY and p.default is inspect.Parameter.empty for p in parameters):
        return 1, 0
    takes_any = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    return len(required), sys.maxsize if takes_any else len(positional)


class _Shown:
    """A default or an annotation that is known only as text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _short(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return ""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else text[:77] + "..."


def _annotation(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return (annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))[:80]


def _first_paragraph(function: Any) -> str:
    return (inspect.getdoc(function) or "").split("\n\n")[0][:2000] if hasattr(function, "__name__") else ""


# ---- shipping ---------------------------------------------------------------------------------------------------------


class Shipping(Protocol):
    """Which modules go along: `shipping.Shipment`. `versions`: theirs; `bundle`: what is pickled in front of the function."""

    @property
    def versions(self) -> dict[str, str]: ...
    @property
    def bundle(self) -> Any: ...


Ships = Callable[[Iterable[str]], Shipping]
"""Tells which modules go along with code that needs these."""


def ship(
    function: Callable[..., Any],
    kind: pb.Code.Kind,
    spec: pb.FunctionSpec,
    shipping: Ships | None = None,
) -> tuple[pb.Code, codec.Encoded]:
    """The function as a payload for another Python of the same minor version, with the cells' source for its tracebacks.

    `shipping`: tells which modules go along with code that needs these. Raises UnpicklableError with the path to what it captured
    and can't be sent, UsageError for modules that can't be shipped.
    """
    _check_python(spec)
    walk = Dependencies((_called(function), function))
    shipment = shipping(walk.modules) if shipping is not None else None
    encoded = payload_of(function, walk, shipment)
    spec.version = _version(walk, shipment, spec)
    code = pb.Code(
        kind=kind,
        spec=spec,
        digest=digest_of(encoded.parts),
        python=python_minor(),
        cloudpickle=this_runtime().cloudpickle,
    )
    return code, encoded


def _check_python(spec: pb.FunctionSpec) -> None:
    wanted = spec.environment.python
    if wanted and ".".join(wanted.split(".")[:2]) != python_minor():
        raise EnvironmentMismatch(
            f"'{spec.name}' is to run on Python {wanted}, and comes from Python {python_minor()}, whose code no other loads"
        )


def payload_of(function: Callable[..., Any], walk: Dependencies, shipment: Shipping | None = None) -> codec.Encoded:
    """What is sent of a function, of which `walk` tells what it brings."""
    bundle = shipment.bundle if shipment is not None else None
    content = (_sources(walk), function) if bundle is None else (_sources(walk), bundle, function)
    return codec.encode(content, _called(function))


def version_of(function: Callable[..., Any], spec: pb.FunctionSpec | None = None, shipping: Ships | None = None) -> str:
    """Changes with the function's code, with that of every helper, the value of every constant and the files of every shipped
    module that it reaches, and with its environment."""
    walk = Dependencies((_called(function), function))
    return _version(walk, shipping(walk.modules) if shipping is not None else None, spec)


def _version(walk: Dependencies, shipment: Shipping | None, spec: pb.FunctionSpec | None) -> str:
    version = walk.version(shipment.versions if shipment is not None else None)
    if spec is None or not spec.HasField("environment"):
        return version
    return digest_of([version.encode(), spec.environment.SerializeToString(deterministic=True)])[:VERSION_DIGITS]


def _called(function: Any) -> str:
    return str(getattr(function, "__name__", "the function"))


class Loaded(NamedTuple):
    """`modules`: versions of those that came with the function, by name."""

    function: Callable[..., Any]
    modules: dict[str, str]


def load(encoded: codec.Encoded) -> Loaded:
    """The other end of `ship`."""
    sources, *modules, function = codec.decode(encoded)
    for file, source in sources.items():
        remember_source(file, source)
    return Loaded(function, modules[0] if modules else {})


def remember_source(file: str, source: str) -> None:
    """Let tracebacks show the lines of code that has no file here."""
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)


def _sources(walk: Dependencies) -> dict[str, str]:
    """Source of the notebook cells that the function and its helpers come from."""
    found: dict[str, str] = {}
    for part in walk.parts:
        if isinstance(part.value, FunctionType):
            _add_source(part.value.__code__, found)
    return found


def _add_source(code: CodeType, found: dict[str, str]) -> None:
    file = code.co_filename
    if file in found or (os.path.exists(file) and "ipykernel_" not in file):
        return
    source = "".join(linecache.getlines(file))
    if source and sum(map(len, found.values())) + len(source) <= _MAX_SOURCE_BYTES:
        found[file] = source
