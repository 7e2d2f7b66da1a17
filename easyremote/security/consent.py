"""Whether a node takes a call: from whom it is, what that key may do here, and that nobody changed or repeated it on the way.

A node decides by itself, in its own process, before anything of a call is used. What the gateway says of a call is for routing
only: the client's statement counts, and the line of its key in the node's `authorized_keys`.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from easyremote.errors import AuthError, ConsentError, UsageError
from easyremote.security.authorized_keys import AuthorizedKey, AuthorizedKeys
from easyremote.security.files import state_folder
from easyremote.security.identity import Identity, PublicIdentity, node_identity
from easyremote.security.run_memory import Run, RunMemory
from easyremote.security.statements import (
    OpenAdmission,
    check_call,
    is_of_epoch,
    is_signed,
    open_admission,
    read_call,
)
from easyremote.sizes import format_size
from easyremote.wire.v1 import gateway_pb2 as pb

CODE_MODES = ("auto", "signed", "any", "none")
"""Which code a node takes: signed by an authorized key, any, or none. "auto": any at its user's own gateway, else signed."""

MAX_ADMISSIONS = 1024
"""Admissions that a node has opened and keeps at hand; the one that was used longest ago goes first."""

DEFAULT_RETRIES = 3
"""How often a call may begin again whose client says nothing of it."""


@dataclass(frozen=True, slots=True)
class Permit:
    """A call that may run. `rights`: what its key may do here; None: anything."""

    admission: OpenAdmission
    statement: pb.CallStatement
    statement_digest: bytes  # SHA-256 of it as it came
    rights: AuthorizedKey | None

    @property
    def client(self) -> PublicIdentity:
        return self.admission.client

    def check_code(self, code_digest: str) -> None:
        """Whether this is the code that the client signed. Raises ConsentError."""
        if code_digest != self.statement.code_digest:
            raise ConsentError("the code that came isn't the code that its client signed; it was changed on its way")


class Consent:
    """Decides for one node. Runs on the loop.

    `code`: one of `CODE_MODES` but "auto". `identity` may be left out where nothing is sealed for this node. `trusts_own`: it
    takes "any" because the gateway is its user's own, and nothing unsealed once that isn't so.
    """

    def __init__(
        self,
        node_id: str,
        code: str,
        identity: Identity | None = None,
        keys: AuthorizedKeys | None = None,
        memory: RunMemory | None = None,
        clock: Callable[[], float] = time.time,
        trusts_own: bool = False,
    ) -> None:
        self.node_id = node_id
        self.code = code
        self.trusts_own = trusts_own
        self.identity = identity
        self.keys = keys or AuthorizedKeys()
        self._memory = memory or RunMemory(None, clock())
        self._clock = clock
        self._opened: OrderedDict[bytes, OpenAdmission] = OrderedDict()
        self._own_key = b""  # of the user that the node runs as, once it was seen

    @property
    def sealed_only(self) -> bool:
        """Whether it takes only calls that are sealed by a key that it knows."""
        return self.code == "signed"

    def begin(self, submit: pb.Submit, retries: int = 0, is_own: bool = True) -> Permit | None:
        """Whether this call may begin now; it counts as begun then. None: it isn't sealed, and needn't be.

        `retries`: what its function's owner says, where the client says nothing. `is_own`: the gateway is the user's own.

        Raises ConsentError, which says what to do.
        """
        has_code = submit.HasField("code")
        if has_code and self.code == "none":
            raise ConsentError(
                f"node '{self.node_id}' takes no code, only calls of the functions that it offers; its owner said so"
            )
        if not submit.HasField("seal"):
            if self.trusts_own and not is_own:
                raise ConsentError(
                    f"node '{self.node_id}' was started for its user's own gateway, and what answers there now isn't known "
                    "as that; start the node again"
                )
            if self.sealed_only:
                raise ConsentError(
                    f"node '{self.node_id}' takes only calls that are sealed and signed by a key that it was told to trust, and "
                    "this one isn't; upgrade EasyRemote where it was made, then 'easyremote keys' there shows the key"
                )
            return None
        try:
            return self._check_sealed(submit, retries)
        except UsageError as error:  # a line of a file of this node
            raise ConsentError(
                f"node '{self.node_id}' takes no sealed calls until this is mended: {error.message}"
            ) from error

    def _check_sealed(self, submit: pb.Submit, retries: int) -> Permit:
        now = self._clock()
        admission = self._open(submit.seal.admission, now)
        if not is_of_epoch(admission, submit.seal):
            raise ConsentError("what the call's client stated was changed on its way")
        statement = read_call(submit.seal)
        if statement.epoch != admission.epoch:
            raise ConsentError("the call came with another call's admission")
        check_call(statement, submit, self.node_id, now)
        rights = self._rights(admission.client, now)
        if submit.HasField("code"):
            self._check_code(submit, statement, admission.client, rights)
        elif rights is not None and not rights.may_call(submit.function):
            raise self._refusal(
                rights.key, f"may not call '{submit.function}' on node '{self.node_id}'", "--function …"
            )
        if rights is not None:
            self._check_limits(rights, submit.grant)
        allowed = statement.retries if statement.retries_set else max(statement.retries, retries, DEFAULT_RETRIES)
        run = Run(statement.call_id, submit.attempt, statement.issued, statement.expires)
        self._memory.begin(run, allowed + 1, now)
        return Permit(admission, statement, hashlib.sha256(submit.seal.statement).digest(), rights)

    def _open(self, admission: pb.Admission, now: float) -> OpenAdmission:
        """It comes with every call of its epoch, so it is opened once."""
        if self.identity is None:
            raise ConsentError(f"node '{self.node_id}' has no key to open sealed calls with")
        name = hashlib.sha256(admission.statement).digest() + admission.signature
        known = self._opened.get(name)
        if known is None or now >= known.expires:
            known = open_admission(admission, self.identity, now)
            self._opened[name] = known
            if len(self._opened) > MAX_ADMISSIONS:
                self._opened.popitem(last=False)
        self._opened.move_to_end(name)
        return known

    def _rights(self, client: PublicIdentity, now: float) -> AuthorizedKey | None:
        try:
            rights = self.keys.find(client.sign_key)
        except ConsentError:
            raise
        except AuthError as error:
            raise ConsentError(
                f"node '{self.node_id}' takes no sealed calls until this is mended: {error.message}"
            ) from error
        if rights is None and self.sealed_only and not self._is_own(client):
            raise self._refusal(client, f"isn't trusted by node '{self.node_id}'")
        if rights is not None and rights.is_expired(now):
            raise self._refusal(client, f"was trusted by node '{self.node_id}' until a time that is over")
        return rights

    def _is_own(self, client: PublicIdentity) -> bool:
        """Whether it is the key of the user that the node runs as, in the same folder: it needn't be told to trust that."""
        if self._own_key != client.sign_key:
            own = Identity.load()
            self._own_key = own.public.sign_key if own is not None else b""
        return self._own_key == client.sign_key

    def _check_code(
        self, submit: pb.Submit, statement: pb.CallStatement, client: PublicIdentity, rights: AuthorizedKey | None
    ) -> None:
        if rights is not None and not rights.may_ship:
            raise self._refusal(client, f"may call functions of node '{self.node_id}', and may not bring code")
        if not is_signed(client, submit.seal):
            raise ConsentError("the call brings code that its client didn't sign")
        if submit.code.digest not in ("", statement.code_digest):
            raise ConsentError("the code that came isn't the code that its client signed; it was changed on its way")

    def _check_limits(self, rights: AuthorizedKey, grant: pb.Grant) -> None:
        if rights.gpus is not None and len(grant.gpus) > rights.gpus:
            what = f"may use {rights.gpus} GPUs of node '{self.node_id}' in one call, and this one asks for {len(grant.gpus)}"
            raise self._refusal(rights.key, what, "--gpus …")
        if rights.memory_bytes and grant.memory_bytes > rights.memory_bytes:
            most, asked = format_size(rights.memory_bytes), format_size(grant.memory_bytes)
            what = f"may use {most} of node '{self.node_id}' in one call, and this one asks for {asked}"
            raise self._refusal(rights.key, what, "--memory …")

    def _refusal(self, client: PublicIdentity, what: str, option: str = "") -> ConsentError:
        command = " ".join(part for part in ("easyremote trust", client.text, option) if part)
        return ConsentError(
            f"your key {client.fingerprint} {what}. To change that, run on the node: {command}",
            key=client.text,
            fingerprint=client.fingerprint,
            node=self.node_id,
        )

    def close(self) -> None:
        self._memory.close()


def consent_of(node_id: str, code: str, is_own: bool) -> Consent:
    """For a node with this setting, at a gateway that is its user's own or not. Reads the node's key where it needs one.

    A node at its user's own gateway has a key of its process, which is never kept: where another node there demands that calls
    are sealed, those that may go to either are.

    Raises AuthError and UsageError for files that others can change, or that can't be read.
    """
    mode = code
    if code == "auto":
        mode = "any" if is_own else "signed"
    if is_own and mode != "signed" and os.environ.get("EASYREMOTE_SEAL") != "1":
        memory = RunMemory(None, time.time())
        return Consent(node_id, mode, Identity.generate(), memory=memory, trusts_own=code == "auto")
    keys = AuthorizedKeys()
    for _ in keys:  # what is wrong with the file is better told now
        break
    identity, is_kept = node_identity()
    path = state_folder() / f"begun-{identity.public.sign_key.hex()[:16]}" if is_kept else None
    return Consent(node_id, mode, identity, keys, RunMemory(path, time.time()))
