"""Nodes are trusted with their first key, and with no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyremote.errors import AuthError, ConsentError, UsageError
from easyremote.security.identity import Identity
from easyremote.security.known_nodes import KnownNodes, Standing, known_nodes_path

KEY, OTHER = Identity.generate().public, Identity.generate().public
AT = "SHA256:gateway"


def test_a_node_is_trusted_with_its_first_key() -> None:
    known = KnownNodes()
    assert known.trust(AT, "gpu", KEY) is Standing.NEW
    assert known.trust(AT, "gpu", KEY) is Standing.KNOWN
    assert KnownNodes().trust(AT, "gpu", KEY) is Standing.KNOWN
    assert known_nodes_path().stat().st_mode & 0o777 == 0o600


def test_a_changed_key_is_refused_until_it_is_forgotten() -> None:
    known = KnownNodes()
    known.trust(AT, "gpu", KEY)
    for _ in range(2):
        with pytest.raises(ConsentError, match="has changed") as caught:
            known.trust(AT, "gpu", OTHER)
    assert caught.value.details["fingerprint"] == OTHER.fingerprint
    assert "easyremote keys --forget 'gpu'" in caught.value.message
    assert KnownNodes().forget("gpu") == 1
    assert known.trust(AT, "gpu", OTHER) is Standing.NEW
    with pytest.raises(ConsentError):
        known.trust(AT, "gpu", KEY)


def test_the_same_name_at_another_gateway_is_another_node() -> None:
    known = KnownNodes()
    known.trust(AT, "gpu", KEY)
    assert known.trust("127.0.0.1:8080", "gpu", OTHER) is Standing.NEW
    assert known.forget("gpu", AT) == 1
    assert [item.gateway for item in known] == ["127.0.0.1:8080"]


def test_a_known_key_under_a_new_name_needs_no_line() -> None:
    known = KnownNodes()
    known.trust(AT, "box-1a2b", KEY)
    assert known.trust(AT, "box-3c4d", KEY) is Standing.KNOWN
    assert len(list(known)) == 1


def test_new_keys_can_be_refused_until_they_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_NEW_NODES", "refuse")
    known = KnownNodes()
    with pytest.raises(ConsentError, match="isn't known here yet"):
        known.trust(AT, "gpu", KEY)
    known.accept(AT, "gpu", KEY.fingerprint)
    assert known.trust(AT, "gpu", KEY) is Standing.KNOWN


@pytest.mark.parametrize("name", ["a b", "knoten-é", "x\u2028y", "# x", "%20", "a/b:[c]"])
def test_any_name_comes_back(name: str) -> None:
    KnownNodes().trust(f"gateway {name}", name, KEY)
    assert [(item.gateway, item.node_id) for item in KnownNodes()] == [(f"gateway {name}", name)]


def test_the_list_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyremote.security.known_nodes.MAX_KNOWN", 3)
    known = KnownNodes()
    for number in range(5):
        known.accept(AT, f"n{number}", KEY.fingerprint)
    assert [item.node_id for item in known] == ["n2", "n3", "n4"]


def test_two_processes_keep_what_the_other_wrote() -> None:
    one, other = KnownNodes(), KnownNodes()
    one.trust(AT, "a", KEY)
    other.trust(AT, "b", OTHER)
    assert sorted(item.node_id for item in one) == ["a", "b"]


def test_a_damaged_or_open_file_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text("gateway gpu\n")
    path.chmod(0o600)
    with pytest.raises(UsageError, match="line 1"):
        KnownNodes(path).trust(AT, "gpu", KEY)
    path.write_text("")
    path.chmod(0o666)
    with pytest.raises(AuthError, match="open to other users"):
        KnownNodes(path).trust(AT, "gpu", KEY)
