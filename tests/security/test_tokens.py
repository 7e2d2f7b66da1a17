"""Tokens: what is kept of them, who is let in, and when not any more."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from easyremote.core.access import OWNER, Role
from easyremote.errors import AuthError, OverloadedError, UsageError
from easyremote.security import tokens
from easyremote.security.tokens import INVITATION, TokenStore

OWNERS = "the-owners-own-token-of-32-chars"


class Clocks:
    """A time of day and a monotonic clock, moved by hand."""

    def __init__(self) -> None:
        self.day = 1_800_000_000.0
        self.span = 500.0

    def pass_(self, seconds: float) -> None:
        self.day += seconds
        self.span += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens-1.json"


@pytest.fixture
def store(path: Path, clocks: Clocks) -> TokenStore:
    return opened(path, clocks)


def opened(path: Path, clocks: Clocks) -> TokenStore:
    store = TokenStore(path, OWNERS, lambda: clocks.day, lambda: clocks.span)
    store.open()
    return store


def test_a_token_opens_what_it_was_made_for(store: TokenStore, clocks: Clocks) -> None:
    record, text = store.create("lab", ["call"], functions=["f*"], nodes=["gpu-1"], max_calls=3, calls_per_s=2)
    access = store.access_of(text, clocks.span)
    assert access is not None and access.token_id == record.token_id and access.roles == {Role.CALL}
    assert access.allows_function("fit") and not access.allows_function("train")
    assert access.allows_node("gpu-1") and not access.allows_node("gpu-2")
    assert (access.may_call, access.may_ship, access.may_serve, access.may_administer) == (True, False, False, False)
    assert (access.max_calls, access.calls_per_s, access.expires_at) == (3, 2.0, None)
    assert store.access_of(text.encode(), clocks.span) == access


def test_the_owners_token_is_the_owners_and_in_no_file(store: TokenStore, path: Path, clocks: Clocks) -> None:
    assert store.access_of(OWNERS, clocks.span) is OWNER
    store.create("lab")
    assert [record.name for record in store.list()] == ["lab"]
    assert OWNERS not in path.read_text()


def test_nothing_is_written_before_there_is_a_token(store: TokenStore, path: Path) -> None:
    assert store.access_of(OWNERS, 0.0) is OWNER and store.list() == []
    assert not path.parent.exists()


def test_only_a_digest_is_kept_and_nobody_else_can_read_it(store: TokenStore, path: Path) -> None:
    record, text = store.create("lab", ["ship"])
    kept = path.read_text()
    secret = text.split("_", 2)[2]
    assert secret not in kept and text not in kept and len(secret) == 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert secret not in repr(record) and record.digest not in repr(record)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # no temporary file is left


def test_tokens_outlive_the_gateway(store: TokenStore, path: Path, clocks: Clocks) -> None:
    made = {store.create("lab", ["call", "serve"], nodes=["n*"], expires_s=60, max_bytes=7) for _ in range(3)}
    again = opened(path, clocks)
    assert {record for record, _ in made} == set(again.list())
    for record, text in made:
        access = again.access_of(text, clocks.span)
        assert access == store.access_of(text, clocks.span)
        assert access is not None and access.token_id == record.token_id


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused(store: TokenStore, path: Path, clocks: Clocks, mode: int) -> None:
    store.create("lab")
    path.chmod(mode)
    with pytest.raises(AuthError, match="chmod 600"):
        opened(path, clocks)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o710])
def test_a_folder_that_others_can_look_into_is_refused(
    store: TokenStore, path: Path, clocks: Clocks, mode: int
) -> None:
    path.parent.mkdir(mode=0o700)
    path.parent.chmod(mode)
    with pytest.raises(AuthError, match="chmod 700"):
        store.create("lab")
    assert store.list() == [] and not path.exists()
    path.parent.chmod(0o700)
    store.create("lab")
    path.parent.chmod(mode)
    with pytest.raises(AuthError, match="chmod 700"):
        opened(path, clocks)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"version": 1, "written": 0, "tokens": [{}]}',
        b'{"version": 1, "written": 0, "tokens": [1]}',
        b'{"version": 2, "written": 0, "tokens": []}',
        b'{"version": 1, "written": "x", "tokens": []}',
    ],
)
def test_a_file_that_makes_no_sense_is_refused_and_left(path: Path, clocks: Clocks, content: bytes) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(AuthError, match=r"move it away|upgrade"):
        opened(path, clocks)
    assert path.read_bytes() == content


def test_a_record_that_claims_to_be_the_owner_is_refused(store: TokenStore, path: Path, clocks: Clocks) -> None:
    store.create("lab")
    content = json.loads(path.read_text())
    content["tokens"][0]["token_id"] = "owner"
    path.write_text(json.dumps(content))
    with pytest.raises(AuthError):
        opened(path, clocks)


def test_a_change_that_cannot_be_written_has_not_happened(
    store: TokenStore, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, text = store.create("lab")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokens, "write_private", full)
    with pytest.raises(OSError, match="No space"):
        store.create("another")
    with pytest.raises(OSError, match="No space"):
        store.revoke(record.token_id)
    assert store.list() == [record] and store.access_of(text, clocks.span) is not None


# ---- who isn't let in ------------------------------------------------------------------------------------------------


def bad_tokens(text: str) -> list[str | bytes]:
    head, token_id, secret = text.split("_", 2)
    return [
        "",
        "x",
        text[:-1],
        text + "x",
        text[:-1] + ("A" if text[-1] != "A" else "B"),
        f"{head}_{token_id}",
        f"{head}_{token_id}_",
        f"{head}_00000000_{secret}",
        text.upper(),
        f" {text}",
        b"\xff" * 50,
        text.encode("utf-16"),
        "x" * (1 << 20),
        text + "\0" * (1 << 20),
        OWNERS[:-1],
        OWNERS + "\0" * (1 << 20),
        "owner",
        "er_owner____" + OWNERS,
    ]


def test_whatever_is_wrong_with_a_token_nobody_is_let_in(store: TokenStore, clocks: Clocks) -> None:
    _, text = store.create("lab")
    for bad in bad_tokens(text):
        assert store.access_of(bad, clocks.span) is None, bad[:80]
        assert store.invitation_of(bad, clocks.span) is None
    assert store.access_of(text, clocks.span) is not None


def test_each_refusal_does_the_same_work(store: TokenStore, clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    """One digest of what was shown, compared in constant time with the owner's and with one record's, or with none's; then one
    look at the time of day."""
    _, text = store.create("lab")
    record, revoked = store.create("gone")
    store.revoke(record.token_id)
    _, expired = store.create("over", expires_s=1)
    clocks.pass_(2)
    work: list[str] = []
    digest, compare = tokens._digest, tokens.hmac.compare_digest
    monkeypatch.setattr(tokens, "_digest", lambda data: work.append(f"digest of {len(data) > 4096}") or digest(data))
    monkeypatch.setattr(
        tokens.hmac, "compare_digest", lambda a, b: work.append(f"compare {len(a)} {len(b)}") or compare(a, b)
    )
    _, invitation = store.create("in", kind=INVITATION, for_roles=[Role.CALL])
    _, used = store.create("used", kind=INVITATION, for_roles=[Role.CALL], once=True)
    store.use_invitation(used, clocks.span)
    monkeypatch.setattr(store, "_wall", lambda: work.append("time") or clocks.day)
    for shown in [text, revoked, expired, invitation, used, *bad_tokens(text)]:
        for look in (store.access_of, store.invitation_of):
            work.clear()
            look(shown, clocks.span)
            assert work == ["digest of False", "compare 32 32", "compare 32 32", "time"], shown[:80]


def test_a_revoked_token_opens_nothing_any_more(store: TokenStore, path: Path, clocks: Clocks) -> None:
    record, text = store.create("lab")
    _, other = store.create("other")
    assert not store.why_over(record.token_id, clocks.span)
    assert store.revoke(record.token_id) == record and store.revoke(record.token_id) is None
    assert store.revoke("owner") is None and store.revoke("") is None
    assert store.access_of(text, clocks.span) is None and store.why_over(record.token_id, clocks.span) == tokens.REVOKED
    assert store.take_revoked() == [record.token_id] and store.take_revoked() == []
    assert store.access_of(other, clocks.span) is not None
    assert opened(path, clocks).access_of(text, clocks.span) is None
    assert not store.why_over("owner", clocks.span)


# ---- time ------------------------------------------------------------------------------------------------------------


def test_a_token_expires(store: TokenStore, path: Path, clocks: Clocks) -> None:
    record, text = store.create("lab", expires_s=60)
    clocks.pass_(59)
    assert store.access_of(text, clocks.span) is not None and not store.why_over(record.token_id, clocks.span)
    clocks.pass_(1)
    assert store.access_of(text, clocks.span) is None and store.why_over(record.token_id, clocks.span) == tokens.EXPIRED
    assert opened(path, clocks).access_of(text, clocks.span) is None
    assert store.list() == [record]  # until it is revoked, or makes room


def test_a_clock_that_is_set_back_prolongs_nothing(store: TokenStore, path: Path, clocks: Clocks) -> None:
    record, text = store.create("lab", expires_s=60)
    clocks.day -= 86400
    access = store.access_of(text, clocks.span)
    assert access is not None and access.expires_at == 560.0
    clocks.span += 61
    assert store.access_of(text, clocks.span) is None and store.why_over(record.token_id, clocks.span) == tokens.EXPIRED
    assert opened(path, clocks).access_of(text, clocks.span) is not None  # nobody knows better after a restart ...
    clocks.span += 61
    assert (
        opened(path, clocks)._known[record.token_id].ends_at <= clocks.span + 60
    )  # ... but it never gets more than it had


def test_a_machine_that_slept_has_no_older_tokens(store: TokenStore, clocks: Clocks) -> None:
    """The monotonic clock stands still meanwhile."""
    _, text = store.create("lab", expires_s=60)
    clocks.day += 61
    assert store.access_of(text, clocks.span) is None


# ---- invitations -----------------------------------------------------------------------------------------------------


def test_an_invitation_opens_nothing_but_join(store: TokenStore, clocks: Clocks) -> None:
    record, text = store.create("guest", kind=INVITATION, for_roles=["serve"], expires_s=60)
    assert store.access_of(text, clocks.span) is None
    assert store.invitation_of(text, clocks.span) == record and record.for_roles == (Role.SERVE,) and not record.roles
    _, token = store.create("lab", ["admin"])
    assert store.invitation_of(token, clocks.span) is None and store.invitation_of(OWNERS, clocks.span) is None


def test_an_invitation_for_one_is_used_once(store: TokenStore, path: Path, clocks: Clocks) -> None:
    record, text = store.create("guest", kind=INVITATION, for_roles=["call"], once=True)
    assert store.use_invitation(text, clocks.span) == record
    assert store.use_invitation(text, clocks.span) is None and store.invitation_of(text, clocks.span) is None
    assert opened(path, clocks).use_invitation(text, clocks.span) is None
    many, text = store.create("guests", kind=INVITATION, for_roles=["call"], expires_s=5)
    assert store.use_invitation(text, clocks.span) == many and store.use_invitation(text, clocks.span) == many
    clocks.pass_(5)
    assert store.use_invitation(text, clocks.span) is None


# ---- what can't be made ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"roles": []},
        {"roles": ["root"]},
        {"roles": "root"},
        {"functions": ["f"], "roles": ["ship"]},
        {"functions": ["f"], "roles": ["admin"]},
        {"functions": ["f"], "kind": INVITATION, "for_roles": ["ship"]},
        {"functions": [""]},
        {"functions": ["x" * 201]},
        {"nodes": ["x"] * 101},
        {"expires_s": 0},
        {"expires_s": -1},
        {"expires_s": float("nan")},
        {"expires_s": float("inf")},
        {"max_calls": -1},
        {"calls_per_s": float("nan")},
        {"calls_per_s": float("inf")},
        {"max_bytes": -1},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_words(store: TokenStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        store.create(**{"name": "lab", **wrong})
    assert store.list() == []


def test_tokens_are_bounded_and_expired_ones_make_room(
    store: TokenStore, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MAX_TOKENS", 3)
    store.create("short", expires_s=5)
    store.create("long")
    store.create("longer")
    with pytest.raises(OverloadedError, match="3 tokens"):
        store.create("one more")
    clocks.pass_(5)
    store.create("one more")
    assert {record.name for record in store.list()} == {"long", "longer", "one more"}
