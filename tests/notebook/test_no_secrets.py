"""No secret in what a kernel shows, nor in the notebook that is saved of it; nor where other users look at its processes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from easyremote import Client, ComputeNode, Server
from easyremote.security.authorized_keys import AuthorizedKey, make_key
from easyremote.security.joining import Invitation
from tests.conftest import descendants_of, wait_until
from tests.notebook.conftest import Cell, Kernel

pytestmark = [pytest.mark.notebook, pytest.mark.attack, pytest.mark.slow]

SAYS_ITS_KEYS = """
import json, pathlib
_sealing = client._connection.sealing
_found = {"epoch": [e.key.hex() for e in _sealing._epochs], "mac": [e.mac_key.hex() for e in _sealing._epochs]}
_written = pathlib.Path(%r).write_text(json.dumps(_found))
"""

WORK = """
import os, easyremote
%easyremote status
%easyremote nodes
%easyremote functions
display(client, client._connection, client._connection.endpoint, client._connection.sealing, client.list_nodes())
display(client.gateway_info(), client.tokens(), dict(os.environ), node)
client.call("double", 4)
"""

FAILS = ["client.call('double')", "client.call('nothing')", "client.call(lambda: 1 / 0)",
         "easyremote.Client(client.address, token='er_01234567_wrong')", "%easyremote connect er1:AAAA",
         "%easyremote connect 127.0.0.1:1"]  # fmt: skip


def saved(cells: list[Cell]) -> str:
    """The outputs as a front end saves them: of each display the newest state."""
    outputs: list[dict] = []
    by_id: dict[str, dict] = {}
    for cell in cells:
        for message in cell.messages:
            content = message["content"]
            display_id = content.get("transient", {}).get("display_id")
            if message["msg_type"] == "update_display_data":
                if display_id in by_id:
                    by_id[display_id]["data"] = content["data"]
                continue
            kept = dict(content)
            outputs.append(kept)
            if display_id:
                by_id[display_id] = kept
    return json.dumps(outputs)


def secrets_in(folder: Path) -> dict[str, str]:
    """What a person's configuration keeps: the token of the gateway that was joined, and private keys."""
    found = {}
    for path in folder.glob("gateways/*.json"):
        found["token"] = json.loads(path.read_text())["token"].split("_", 2)[2]
    text = (folder / "identity.key").read_text()
    for number, word in enumerate(re.findall(r"[A-Za-z0-9_+/=-]{30,}", text)):
        found[f"key {number}"] = word.rstrip("=")
        raw = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
        found[f"key {number} in hexadecimal"] = raw.hex()
    return found


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """Of somebody else, as far as can be told."""
    tmp_path.chmod(0o700)
    kernel = Kernel(
        {
            "EASYREMOTE_RUNTIME_DIR": str(tmp_path),
            "EASYREMOTE_CONFIG_DIR": str(tmp_path / "config"),
            "EASYREMOTE_STATE_DIR": str(tmp_path / "state"),
        }
    )
    yield kernel
    kernel.close()


def processes(kernel: Kernel) -> set[int]:
    """The kernel, what it started, and what this process did: nodes' workers."""
    import os

    return {kernel.pid, os.getpid(), *descendants_of(kernel.pid), *descendants_of(os.getpid())}


def seen_of(pid: int) -> str:
    """What other users see of a process, and what its user's other programs do."""
    try:
        return "".join(Path(f"/proc/{pid}/{name}").read_text(errors="replace") for name in ("cmdline", "environ"))
    except OSError:
        return ""


def trusted(kernel: Kernel, tmp_path: Path) -> AuthorizedKey:
    """The kernel's user, as a node is told."""
    kernel.ok("from easyremote.security.identity import own_identity; _own = own_identity()")
    text = kernel.ok("_own.public.text").result.strip("'")
    return make_key(text)


def test_a_kernels_messages_and_its_notebook_hold_no_secret(kernel: Kernel, tmp_path: Path) -> None:
    from easyremote.security.authorized_keys import AuthorizedKeys

    with Server(port=0, host="0.0.0.0") as server:
        AuthorizedKeys().add(trusted(kernel, tmp_path))
        invitation = server.invite("admin")
        with ComputeNode(server.invite("node"), "far", code="signed") as node:
            node.register(lambda x: 2 * x, name="double")
            node.serve()
            cells = [kernel.ok(f"%load_ext easyremote\n%easyremote connect {invitation}")]
            cells.append(kernel.ok(WORK))
            assert cells[-1].result == "8"
            cells.append(kernel.ok("%%remote\nimport os\nprint('there', dict(os.environ))\nos.getpid()"))
            assert "there" in cells[-1].text
            cells += [kernel.run(code) for code in FAILS]
            assert all(cell.error for cell in cells[-len(FAILS) :])
            cells.append(kernel.ok("%easyremote keys"))
            cells.append(kernel.ok("%easyremote invite --role ship"))
            line = re.search(r"er1:\S{40,}", cells[-1].displays[0]["text/plain"])
            assert line is not None
            cells.append(kernel.ok(SAYS_ITS_KEYS % str(tmp_path / "keys.json")))
            found = secrets_in(tmp_path / "config") | {"owner": server.token}
            found["invitation"] = Invitation.parse(invitation).token.split("_", 2)[2]
            for name, keys in json.loads((tmp_path / "keys.json").read_text()).items():
                for number, key in enumerate(keys):
                    found[f"{name} {number}"] = key
                    found[f"{name} {number} in base64"] = base64.b64encode(bytes.fromhex(key)).decode().rstrip("=")
            assert {"token", "key 0", "epoch 0", "owner"} <= set(found) and all(len(s) > 20 for s in found.values())
            for pid in processes(kernel):
                assert [name for name, secret in found.items() if secret in seen_of(pid)] == [], pid
            everything = json.dumps([cell.messages for cell in cells] + [cell.reply for cell in cells], default=str)
            assert [name for name, secret in found.items() if secret in everything] == []
            # The one place: a line that is there to be copied. It goes when it was used.
            assert line[0] in saved(cells)
            with Client(line[0]) as guest:
                assert guest.list_nodes()
                kernel.until(lambda: "was used" in saved(cells), timeout_s=20)
            assert line[0] not in saved(cells)
            kernel.ok("%easyremote stop")
            wait_until(lambda: not server.open_calls)
