"""Modules beside the notebook go along with code, in their newest version, and nothing else changes there."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, ComputeNode, Server, UsageError
from easyremote.errors import PayloadError
from easyremote.execution import reading
from easyremote.execution.functions import ship, spec_of
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.capture.conftest import edit
from tests.conftest import wait_until


@pytest.fixture(scope="module")
def gateway() -> Iterator[Server]:
    with Server(port=0) as server, ComputeNode(server.address, "gpu-1"):
        yield server


def _cell(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "<cell 5>", "exec"), namespace)
    return namespace


def test_what_is_not_shipped_is_said_with_what_to_do(client: Client, beside: Path) -> None:
    """C22: the module that a function uses lies beside the notebook, and isn't on the node."""
    cell = _cell("import er_helpers\ndef f(x): return er_helpers.double(x)")
    found = {module.name: module for module in client.explain_capture(cell["f"]).modules}
    assert found["er_helpers"].where == "beside the notebook" and not found["er_helpers"].shipped
    with pytest.raises(ModuleNotFoundError) as caught:
        client.call(cell["f"], 4)
    assert "gpu-1" in str(caught.value) and "%easyremote ship er_helpers" in str(caught.value)
    assert caught.value.name == "er_helpers"


def test_a_shipped_module_brings_those_it_imports_and_an_edit_is_a_new_version(client: Client, beside: Path) -> None:
    cell = _cell("import er_helpers\nfrom er_helpers import double\ndef f(x): return er_helpers.double(x)")
    shipped = {module.name: module for module in client.ship("er_helpers")}
    assert shipped["er_units"].needed_by == ("er_helpers",) and shipped["er_helpers"].needed_by == ()
    before = client.explain_capture(cell["f"])
    assert before.modules[0].shipped and client.call(cell["f"], 4) == 8
    assert client.call(cell["double"], 5) == 10  # pickled by reference
    thing = client.call(_cell("import er_helpers\ndef g(): return er_helpers.make(7)")["g"])
    assert type(thing) is sys.modules["er_helpers"].Thing and thing.n == 7
    assert client.call(_cell("def g(x):\n    return x.n")["g"], thing) == 7  # an argument of its class

    edit(beside / "er_units.py", "FACTOR = 2", "FACTOR = 30")
    assert client.call(cell["f"], 4) == 120
    assert client.explain_capture(cell["f"]).version != before.version
    assert {m.name: m.version for m in client.ship()}["er_helpers"] != shipped["er_helpers"].version
    client.unship("er_helpers")
    with pytest.raises(ModuleNotFoundError):
        client.call(cell["f"], 4)


def test_functions_keep_the_version_that_they_were_registered_with(client: Client, beside: Path) -> None:
    node = client.node()
    client.ship("er_units")
    cell = _cell("def old(x):\n    import er_units\n    return er_units.twice(x)")
    node.register(cell["old"], name="old")
    assert client.call("old", 3) == 6
    edit(beside / "er_units.py", "FACTOR = 2", "FACTOR = 5")
    node.register(cell["old"], name="new")
    assert [client.call(name, 3) for name in ("old", "new", "old", "new")] == [6, 15, 6, 15]
    same = _cell("def same():\n    import er_units\n    seen = globals().setdefault('seen', [])\n    seen.append(er_units)\n"
                 "    return len({id(m) for m in seen}), len(seen)")["same"]  # fmt: skip
    node.register(same)
    for turn in range(1, 4):
        client.call("old", 1)
        assert client.call("same") == (1, turn)  # the module is one object as long as it doesn't change


def test_a_package_comes_with_its_modules_and_data_and_without_caches(client: Client, beside: Path) -> None:
    shipped = client.ship("er_pack.sub")[0]
    assert (shipped.name, shipped.files) == ("er_pack", 4)
    cell = _cell("import er_pack\ndef f(): return er_pack.answer()")
    assert client.call(cell["f"]) == "42 of the data file"
    edit(beside / "er_pack/data/table.txt", "42", "43")
    assert client.call(cell["f"]).startswith("43")


def test_automatic_shipping_takes_what_is_used_and_nothing_else(
    gateway: Server, beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EASYREMOTE_SHIP", "auto")
    with Client(gateway.address) as client:
        assert client.ships_all and client.ship() == []
        cell = _cell(
            "def f(x):\n    from er_helpers import double\n    return double(x)\nimport numpy as np\ndef g(): return np.pi"
        )
        assert client.call(cell["f"], 21) == 42
        used = {module.name for module in client.explain_capture(cell["f"]).modules if module.shipped}
        assert used == {"er_helpers", "er_units"}
        assert [module.name for module in client.explain_capture(cell["g"]).modules] == ["numpy"]
        client.ship(auto=False)
        with pytest.raises(ModuleNotFoundError):
            client.call(cell["f"], 21)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("numpy", "installed"),
        ("json", "standard library"),
        ("er_nothing", "found"),
        ("er_native", "compiled"),
        ("er_huge", "big.bin"),
        ("a b", "no module"),
    ],
)
def test_what_cannot_be_shipped_is_refused_at_once(client: Client, beside: Path, name: str, why: str) -> None:
    for package in ("er_native", "er_huge"):
        (beside / package).mkdir()
        (beside / package / "__init__.py").write_text("")
    (beside / "er_native" / "fast.so").write_bytes(b"\x7fELF")
    with (beside / "er_huge" / "big.bin").open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(UsageError, match=why):
        client.ship(name)
    assert client.ship() == []


def test_who_is_asked_sees_the_source_of_modules_and_a_change_is_new_code(beside: Path) -> None:
    from easyremote.shipping import Shipments

    def shipped() -> tuple[pb.Code, Any]:
        shipments = Shipments()
        shipments.add(["er_pack", "er_units"])
        function = types.FunctionType((lambda: 1).__code__, {"__name__": "__main__"}, "f")
        return ship(function, pb.Code.KIND_CALLABLE, spec_of(function, "f"), shipments.for_code)

    code, encoded = shipped()
    read = reading.read_function(encoded)
    assert "FACTOR = 2" in read.text and "er_pack/sub/deep.py" in read.text
    assert any("table.txt" in note and "isn't shown" in note for note in read.notes)
    edit(beside / "er_units.py", "FACTOR = 2", "FACTOR = 3")
    assert shipped()[0].digest != code.digest


def test_a_folder_that_others_can_write_to_takes_no_code(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everyone may make folders in /tmp, and the name can be guessed: what is imported from there might be theirs."""
    import tempfile

    theirs, elsewhere = tmp_path / f"easyremote-modules-{os.getuid()}", tmp_path / "elsewhere"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (elsewhere / "4194304").mkdir(parents=True)  # no process has this number
    theirs.symlink_to(elsewhere)
    with Server(port=0) as server, ComputeNode(server.address), Client(server.address) as client:
        client.ship("er_units")
        code = _cell("def f():\n    import er_units\n    return er_units.twice(1)")["f"]
        with pytest.raises(PayloadError, match="other users can write to"):
            client.call(code)
    assert [path.name for path in elsewhere.iterdir()] == ["4194304"]  # nothing was put there, and nothing removed


def test_nothing_is_left_when_the_node_ends(beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with Server(port=0) as server, ComputeNode(server.address), Client(server.address) as client:
        client.ship("er_units")
        client.call(_cell("def f():\n    import er_units\n    return er_units.twice(1)")["f"])
        assert list(place.rglob("er_units.py"))
    wait_until(lambda: not list(place.glob("easyremote-modules-*")))
