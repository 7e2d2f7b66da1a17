"""The tokens of one gateway: who may come in, and what each may do. Only digests of their secrets are kept.

Rules:
- A token is `er_ID_SECRET`. The id is public, and what lists, logs and records of jobs show; the secret is 256 random bits, so a
  plain SHA-256 of it is as good as a slow hash would be.
- Whatever is wrong with a token that is shown, it is looked up with the same work, and the answer is the same: nobody.
- A token ends at a time of day, and after a span on the clock that nobody sets, whichever comes first.
- An invitation is a record that opens nothing but `Join`, where it is exchanged for a token.
- The file is written before a change counts. One process has it open: the gateway whose port is in its name.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from easyremote.core.access import OWNER, Access, Role, may_ship
from easyremote.errors import AuthError, OverloadedError, UsageError
from easyremote.security.files import check_folder, read_private, write_private

MAX_TOKENS = 1000
"""Of one gateway. At this many those that have expired make room."""

MAX_PATTERNS = 100
"""Of functions, and of nodes, in one token; each of at most 200 characters."""

MAX_NAME = 100
"""Characters of a token's name."""

MAX_TOKEN_BYTES = 4096
"""Of what is shown as a token, so much is looked at."""

INVITATION = "invitation"

REVOKED = "this token was revoked"
EXPIRED = "this token has expired"

_VERSION = 1

_WHAT = "the gateway's tokens"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token without its secret. Times are seconds since 1970; `expires` None: never.

    `kind`: "token", or "invitation": then it may do nothing but be exchanged for a token with `for_roles`, and with `once` it is
    gone then; `uses_left` above 0 is how often that can happen, 0 that it isn't counted.
    """

    token_id: str
    name: str
    roles: tuple[Role, ...]
    created: float
    digest: str
    functions: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    max_calls: int = 0
    max_bytes: int = 0
    calls_per_s: float = 0.0
    expires: float | None = None
    kind: str = "token"
    for_roles: tuple[Role, ...] = ()
    once: bool = False
    uses_left: int = 0

    def __repr__(self) -> str:
        return f"TokenRecord({self.token_id!r}, {self.name!r}, {self.kind})"


@dataclass(frozen=True, slots=True)
class _Known:
    """A record with what it means while this process lives. `access` is None for an invitation."""

    record: TokenRecord
    digest: bytes
    ends_at: float  # on the monotonic clock
    access: Access | None


_NOBODY = _Known(
    TokenRecord("", "nobody", (), 0.0, "", expires=0.0), hashlib.sha256(secrets.token_bytes(32)).digest(), 0.0, None
)
"""What an unknown id is looked up as, and compared with: it has expired, and its digest is of nothing that anybody knows."""


class TokenStore:
    """Thread-safe. `owner_token`: the gateway's own, which is in no file of this store.

    `path` None: nothing outlives this process. Nothing is written before the first token is made.
    """

    def __init__(
        self,
        path: Path | None,
        owner_token: str,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self._owner = _digest(owner_token.encode())
        self._wall = wall
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._seen = 0.0  # no time of day before this one is believed
        self._known: dict[str, _Known] = {}  # replaced as a whole, so that readers need no lock
        self.note: Callable[[dict[str, Any]], None] | None = None  # takes a line for the audit log
        self._revoked: deque[str] = deque(maxlen=2 * MAX_TOKENS)  # whose sessions are to be ended

    def open(self, path: Path | None = None) -> None:
        """Read what is there. Raises AuthError when others could have read it, or it isn't such a file."""
        self.path = path or self.path
        if self.path is None or not self.path.exists():
            return
        check_folder(self.path.parent, _WHAT)
        data = read_private(self.path, _WHAT)
        with self._lock:
            try:
                content = json.loads(data)
                version, records = int(content["version"]), content["tokens"]
                if version > _VERSION:
                    raise AuthError(
                        f"{self.path} was written by a newer EasyRemote (version {version}); upgrade this one"
                    )
                self._seen = float(content["written"])
                self._known = {record.token_id: self._knows(record) for record in map(_record_of, records)}
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise AuthError(
                    f"{self.path} isn't a list of tokens ({type(error).__name__}: {error}); move it away, and make new tokens"
                ) from error

    # ---- who is it -----------------------------------------------------------------------------------------------

    def access_of(self, token: str | bytes, now: float) -> Access | None:
        """What this token allows at `now`, on the monotonic clock; None for whatever isn't one, or isn't one any more."""
        known, is_right, is_owner = self._find(token)
        is_valid = is_right & self._stands(known, now)
        if is_owner:
            return OWNER
        return known.access if is_valid else None

    def invitation_of(self, token: str | bytes, now: float) -> TokenRecord | None:
        """The invitation that this is, if it is one that still stands."""
        known, is_right, _ = self._find(token)
        is_valid = is_right & self._stands(known, now)
        return known.record if is_valid and known.access is None else None

    def use_invitation(self, token: str | bytes, now: float) -> TokenRecord | None:
        """The same, and one that is counted has one use less. Of several who come at once, no more get it than it has uses."""
        record = self.invitation_of(token, now)
        if record is None or not (record.once or record.uses_left):
            return record
        with self._lock:
            known = dict(self._known)
            entry = known.pop(record.token_id, None)
            if entry is None:
                return None
            if not entry.record.once and entry.record.uses_left > 1:
                left = replace(entry.record, uses_left=entry.record.uses_left - 1)
                known[record.token_id] = replace(entry, record=left)
            self._save(known)
        return record

    def why_over(self, token_id: str, now: float) -> str:
        """Why sessions of this token may not go on; empty where they may."""
        known = self._known.get(token_id)
        if known is None:
            return "" if token_id == OWNER.token_id else REVOKED
        return "" if self._stands(known, now) else EXPIRED

    def _stands(self, known: _Known, now: float) -> bool:
        """Whether its time isn't over. `&` looks at both clocks, whatever the first says."""
        return (now < known.ends_at) & (self._now() < _end_of(known.record))

    def _find(self, token: str | bytes) -> tuple[_Known, bool, bool]:
        """The record of its id, whether it opens that, and whether it is the owner's; with the same work whatever is shown."""
        data = token.encode(errors="replace") if isinstance(token, str) else token
        is_whole = len(data) <= MAX_TOKEN_BYTES
        digest = _digest(data[:MAX_TOKEN_BYTES])
        token_id = data[3:11].decode(errors="replace")
        known = self._known.get(token_id, _NOBODY)
        is_owner = hmac.compare_digest(digest, self._owner)
        is_right = hmac.compare_digest(digest, known.digest)
        return known, is_right & is_whole, is_owner & is_whole

    # ---- what there is -------------------------------------------------------------------------------------------

    def list(self) -> list[TokenRecord]:
        """All but the owner's, the oldest first; those included that have expired and weren't revoked."""
        return sorted((known.record for known in self._known.values()), key=lambda record: record.created)

    def create(
        self,
        name: str,
        roles: Iterable[Role | str] = (Role.CALL,),
        *,
        functions: Iterable[str] = (),
        nodes: Iterable[str] = (),
        max_calls: int = 0,
        max_bytes: int = 0,
        calls_per_s: float = 0.0,
        expires_s: float | None = None,
        kind: str = "token",
        for_roles: Iterable[Role | str] = (),
        once: bool = False,
        uses_left: int = 0,
        by: str = OWNER.name,
    ) -> tuple[TokenRecord, str]:
        """A new token, and its text, which can't be had again. `expires_s`: how long it is good, in seconds; None: for ever.
        `by`: who makes it, for the audit log.

        Raises UsageError for what can't be, OverloadedError at `MAX_TOKENS`, AuthError or OSError when its file can't be written.
        """
        chosen = () if kind == INVITATION else _roles(roles)
        record = TokenRecord(
            token_id="",
            name=name,
            roles=chosen,
            created=0.0,
            digest="",
            functions=tuple(functions),
            nodes=tuple(nodes),
            max_calls=max_calls,
            max_bytes=max_bytes,
            calls_per_s=float(calls_per_s),
            kind=kind,
            for_roles=_roles(for_roles) if kind == INVITATION else (),
            once=once,
            uses_left=uses_left,
        )
        _check(record, expires_s)
        with self._lock:
            known = self._with_room()
            token_id = secrets.token_hex(4)
            while token_id in known:
                token_id = secrets.token_hex(4)
            text = f"er_{token_id}_{secrets.token_urlsafe(32)}"
            now = self._now()
            record = replace(
                record,
                token_id=token_id,
                digest=_digest(text.encode()).hex(),
                created=now,
                expires=None if expires_s is None else now + expires_s,
            )
            self._save({**known, token_id: self._knows(record)})
        self._tell("created", record, by)
        return record, text

    def revoke(self, token_id: str, by: str = OWNER.name) -> TokenRecord | None:
        """Forget it; sessions that it opened end soon. None when there is none of this id. Raises AuthError, OSError."""
        with self._lock:
            known = dict(self._known)
            gone = known.pop(token_id, None)
            if gone is not None:
                self._save(known)
                self._revoked.append(token_id)
        if gone is None:
            return None
        self._tell("revoked", gone.record, by)
        return gone.record

    def take_revoked(self) -> list[str]:
        """Ids of those that were revoked since this was asked last."""
        return [self._revoked.popleft() for _ in range(len(self._revoked))]

    def _with_room(self) -> dict[str, _Known]:
        known = self._known
        if len(known) >= MAX_TOKENS:
            now = self._now()
            known = {token_id: entry for token_id, entry in known.items() if _end_of(entry.record) > now}
        if len(known) >= MAX_TOKENS:
            raise OverloadedError(f"this gateway has {MAX_TOKENS} tokens, the bound; revoke some")
        return known

    def _tell(self, what: str, record: TokenRecord, by: str) -> None:
        if self.note is not None:
            self.note(_facts(what, record, by))

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _now(self) -> float:
        """The time of day, unless it was set back since the file was written."""
        return max(self._wall(), self._seen)

    def _knows(self, record: TokenRecord) -> _Known:
        end = _end_of(record)
        ends_at = math.inf if end == math.inf else self._monotonic() + max(end - self._now(), 0.0)
        access = None
        if record.kind != INVITATION:
            access = Access(
                record.token_id,
                record.name,
                frozenset(record.roles),
                record.functions,
                record.nodes,
                record.max_calls,
                record.max_bytes,
                record.calls_per_s,
                None if end == math.inf else ends_at,
            )
        return _Known(record, bytes.fromhex(record.digest), ends_at, access)

    def _save(self, known: dict[str, _Known]) -> None:
        """First on disk, then here."""
        now = self._now()
        if self.path is not None:
            records = [asdict(entry.record) for entry in known.values()]
            content = {"version": _VERSION, "written": now, "tokens": records}
            check_folder(self.path.parent, _WHAT)
            write_private(self.path, json.dumps(content, indent=1).encode())
        self._seen = now
        self._known = known


def _facts(what: str, record: TokenRecord, by: str) -> dict[str, Any]:
    """What the audit log says of a token that came or went."""
    return {
        "outcome": f"{record.kind} {what}",
        "token_name": by,
        "subject": record.token_id,
        "subject_name": record.name,
        "roles": " ".join(record.roles + record.for_roles),
        "functions": " ".join(record.functions),
        "nodes": " ".join(record.nodes),
        "expires": record.expires,
    }


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _end_of(record: TokenRecord) -> float:
    return math.inf if record.expires is None else record.expires


def _roles(roles: Iterable[Role | str]) -> tuple[Role, ...]:
    """Raises UsageError for one that there isn't."""
    wanted = [roles] if isinstance(roles, str) else list(roles)
    unknown = [role for role in wanted if role not in list(Role)]
    if unknown or not wanted:
        what = f"there is no role '{str(unknown[0])[:MAX_NAME]}'" if unknown else "a token has at least one role"
        raise UsageError(f"{what}; roles are {', '.join(Role)}")
    return tuple(role for role in Role if role in wanted)


def _check(record: TokenRecord, expires_s: float | None) -> None:
    """Raises UsageError."""
    if not 1 <= len(record.name) <= MAX_NAME or not record.name.isprintable():
        raise UsageError(
            f"a token's name has 1 to {MAX_NAME} printable characters; it is what lists and refusals call it"
        )
    for patterns in (record.functions, record.nodes):
        if len(patterns) > MAX_PATTERNS or any(
            not 1 <= len(text) <= 200 or not text.isprintable() for text in patterns
        ):
            raise UsageError(
                f"a token has at most {MAX_PATTERNS} patterns of names, of 1 to 200 printable characters each"
            )
    if record.functions and may_ship(record.roles + record.for_roles):
        raise UsageError(
            "who may ship code isn't kept to some functions; leave out the functions, or the roles ship and admin"
        )
    if expires_s is not None and not 0 < expires_s <= 1e9:
        raise UsageError(f"a token is good for a number of seconds above 0, not {expires_s!r}")
    if not 0 <= record.uses_left <= 1_000_000:
        raise UsageError(f"an invitation has from 1 to 1000000 uses, not {record.uses_left!r}")
    numbers = {"max_calls": record.max_calls, "max_bytes": record.max_bytes, "calls_per_s": record.calls_per_s}
    for what, number in numbers.items():
        if not 0 <= number <= 1e15:
            raise UsageError(f"{what} is a number from 0, which is no bound, not {number!r}")


def _record_of(fields: dict[str, Any]) -> TokenRecord:
    """From the file. Raises ValueError, TypeError, KeyError."""
    patterns: dict[str, Any] = {"functions": tuple(fields["functions"]), "nodes": tuple(fields["nodes"])}
    record = TokenRecord(**{**fields, **patterns})
    roles, for_roles = tuple(map(Role, record.roles)), tuple(map(Role, record.for_roles))
    if len(bytes.fromhex(record.digest)) != 32 or record.token_id == OWNER.token_id:
        raise ValueError("a record without a digest or an id")
    return replace(record, roles=roles, for_roles=for_roles)
