"""`RemoteFunction`: a function of nodes as an object, with the signature and the docstring that it has there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from easyremote import foreign
from easyremote.calls import Call
from easyremote.execution.functions import signature_of
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.client import Client


class RemoteFunction:
    """Call it, or `submit`, `stream` or `map` it, as with `Client`. Made by `Client.function`.

    `help(f)` and, in IPython, `f?` show the remote function's signature and docstring, as they were when this was made.
    """

    def __init__(self, client: Client, spec: pb.FunctionSpec) -> None:
        self._client = client
        self._name = spec.name
        self.__name__ = self.__qualname__ = foreign.name(spec.name)
        self.__doc__ = foreign.text(spec.doc) or None
        signature = signature_of(spec)
        if signature is not None:
            self.__signature__ = signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._client.call(self._name, *args, **kwargs)

    def submit(self, *args: Any, **kwargs: Any) -> Call[Any]:
        return self._client.submit(self._name, *args, **kwargs)

    def stream(self, *args: Any, **kwargs: Any) -> Call[Any]:
        return self._client.stream(self._name, *args, **kwargs)

    def map(self, *iterables: Any, **options: Any) -> Iterator[Any]:
        return self._client.map(self._name, *iterables, **options)

    def __repr__(self) -> str:
        return f"<RemoteFunction {self.__name__}{getattr(self, '__signature__', '(...)')}>"
