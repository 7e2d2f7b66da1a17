"""What the package gives to whoever imports from it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import easyremote
from easyremote import errors


def test_a_star_brings_every_public_name_the_errors_too() -> None:
    brought: dict[str, Any] = {}
    exec("from easyremote import *", brought)
    assert {"Client", "Job", "Ref", "RemoteNode", "current_call"} <= set(brought)
    assert set(errors.__all__) <= set(brought)
    assert brought["RefLost"] is easyremote.RefLost


def test_every_public_name_has_a_docstring() -> None:
    assert [
        name for name in dir(easyremote) if name in easyremote.__all__ and not getattr(easyremote, name).__doc__
    ] == []


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_is_the_same_after_a_pickle(name: str) -> None:
    kind = getattr(errors, name)
    if not issubclass(kind, errors.EasyRemoteError):
        pytest.skip("no error")
    error = kind("what happened")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__dict__) == (kind, str(error), error.__dict__)
