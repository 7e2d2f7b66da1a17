"""`client.explain_capture`: what a function would bring along, told before anything leaves."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from easyremote import CaptureExplanation, Client, ComputeNode, SendLimitError, Server, UsageError
from easyremote.wire import codec

_CELL = """
import math
import numpy as np
SCALE = np.arange(50_000)
NAMES = [f"name {n}" for n in range(2_000)]
count = 0

class Settings:
    rates = list(range(500))

class Opt:
    def __init__(self): self.lock = make_lock()

class Model:
    def __init__(self): self.opt = Opt()

def deepest(x):
    global count
    count += 1
    return Settings.rates[x] + len(NAMES)

def helper(x):
    import sklearn.linear_model
    return deepest(x) + SCALE[x] + math.pi

def train(x, offset=b"y" * 3000):
    return helper(x) + len(offset)

def outer():
    inside = bytes(range(256)) * 10
    def inner(): return inside
    return inner
"""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Server]:
    with Server(port=0) as server, ComputeNode(server.address):
        yield server


@pytest.fixture
def cell() -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__", "make_lock": threading.Lock}
    exec(compile(_CELL, "<cell 3>", "exec"), namespace)
    return namespace


def _items(found: CaptureExplanation) -> dict[str, Any]:
    return {item.name: item for item in found.brings}


def test_every_variable_is_listed_with_its_type_and_bytes(client: Client, cell: dict[str, Any]) -> None:
    found = client.explain_capture(cell["train"])
    items = _items(found)
    expected = {"SCALE": cell["SCALE"], "NAMES": cell["NAMES"], "Settings.rates": cell["Settings"].rates}
    for name, value in {**expected, "train(offset=…)": b"y" * 3000}.items():
        assert items[name].size_bytes == pytest.approx(codec.encode(value).size, rel=0.01), name
    assert items["SCALE"].type == "numpy.ndarray (50000,)" and items["SCALE"].kind == "global"
    assert items["SCALE"].used_by == ("helper",) and items["Settings.rates"].used_by == ("Settings",)
    assert {"train", "helper", "deepest"} <= {item.name for item in found.brings if item.kind == "function"}
    assert items["Settings"].kind == "class" and "Model" not in items
    assert found.total_bytes is not None and found.total_bytes > sum(item.size_bytes for item in found.brings) * 0.9
    inner = _items(client.explain_capture(cell["outer"]()))
    assert inner["inside"].kind == "closure" and inner["inside"].size_bytes == pytest.approx(2560, rel=0.02)
    bound = _items(client.explain_capture(functools.partial(cell["helper"], 3)))
    assert bound["partial(argument 1)"].kind == "argument"


def test_a_global_that_is_changed_there_is_said_to_change_only_there(client: Client, cell: dict[str, Any]) -> None:
    """C23: globals come along as copies, and what a function assigns to one doesn't come back."""
    note = _items(client.explain_capture(cell["train"]))["count"].note
    assert "global count" in note and "deepest" in note and "stays there" in note
    assert client.call(cell["deepest"], 2) == 2002 and cell["count"] == 0


def test_modules_that_have_to_be_there_are_named_with_their_versions(client: Client, cell: dict[str, Any]) -> None:
    modules = {module.name: module for module in client.explain_capture(cell["train"]).modules}
    assert set(modules) == {"numpy", "sklearn"}  # `math` is Python's own
    assert modules["numpy"].version == np.__version__ and modules["numpy"].where == "installed"
    assert modules["sklearn"].used_by == ("helper",) and modules["sklearn"].version


def test_what_cannot_be_pickled_is_shown_by_the_path_to_it(client: Client, cell: dict[str, Any]) -> None:
    exec("model = Model()\ndef f(): return model.opt", cell)
    found = client.explain_capture(cell["f"])
    assert not found.can_be_sent and found.total_bytes is None
    item = _items(found)["model"]
    assert (item.path, item.size_bytes) == ("model.opt.lock", None)
    assert "model.opt.lock" in found.headline and "lock" in item.problem


SECRETS = {
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "note": "see ghp_" + "a1B2" * 9 + " there",
    "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n",
    "api_key": "plain words",
    "dbPassword": "letmein",
    "config": {"db": [{"password": "hunter2"}]},
    "blob": "q7Zt0pYxR3uLw9KcE5sVb1NgHd8MfAj2",
    "url": "postgres://me:sesame@host/db",
}
HARMLESS = {
    "tokenizer": "bert-base-uncased",
    "max_tokens": 100,
    "text": "a sentence that is long enough to be looked at closely",
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "path": "/home/someone/projects/experiments/run",
    "token": "",
}


def test_secrets_are_told_and_never_shown(client: Client) -> None:
    names = {**SECRETS, **HARMLESS}
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(f"def f():\n    k = 'hf_{'A1b2' * 6}'\n    return {', '.join(names)}", namespace)
    found = client.explain_capture(namespace["f"])
    assert set(found.secrets) == {*SECRETS, "a text in f"}
    shown = repr(found) + found._repr_html_() + str(found.to_dict())
    for secret in (
        "IOSFODNN7EXAMPLE",
        "a1B2a1B2",
        "MIIE",
        "plain words",
        "letmein",
        "hunter2",
        "q7Zt0p",
        "sesame",
        "A1b2",
    ):
        assert secret not in shown
    assert "config['db']" in shown and "an AWS access key (AKIA…)" in shown


def test_it_sends_nothing_and_can_be_read_as_text_and_as_html(client: Client, cell: dict[str, Any]) -> None:
    before = [node.finished for node in client.list_nodes()]
    found = client.explain_capture(cell["train"])
    assert [node.finished for node in client.list_nodes()] == before
    assert "SCALE" in repr(found) and "nothing was sent" in repr(found)
    assert "<table" in found._repr_html_() and found["brings"][0]["name"] == found.brings[0].name
    with pytest.raises(UsageError):
        client.explain_capture("train")  # type: ignore[arg-type]


def test_a_call_above_its_limit_is_refused_before_it_is_sent_and_says_what_is_large(
    client: Client, cell: dict[str, Any]
) -> None:
    """C18: the size is known before the upload, for each variable. C17: what to do is said, and nothing when it isn't asked for."""
    limited = client.with_options(send_limit="1MiB")
    before = [node.finished for node in client.list_nodes()]
    with pytest.raises(SendLimitError) as caught:
        limited.call(cell["helper"], np.zeros(1 << 20))
    text = str(caught.value)
    assert "x (numpy.ndarray (1048576,)) 8 MiB" in text and "SCALE" in text and "client.put" in text
    cell["SCALE"] = np.zeros(1 << 18)
    with pytest.raises(SendLimitError, match="SCALE"):
        limited.node().register(cell["helper"])
    with pytest.raises(SendLimitError, match="SCALE"):
        limited.call(cell["helper"], 1)
    assert [node.finished for node in client.list_nodes()] == before
    with pytest.raises(UsageError, match="send_limit"):
        client.with_options(send_limit="many")
    assert limited.call(cell["deepest"], 1) == 2001
    assert limited.call(len, client.put(np.zeros(1 << 18))) == 1 << 18  # a ref is no part of the call
