"""Where the gateway is and what opens it: argument, environment, connection file, configuration file, in this order.

A gateway writes a connection file, readable by its user alone, into the user's runtime folder; clients and nodes of that user
find it there. That is what makes "no configuration" safe on a machine that others use too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import platformdirs

from easyremote.config import DEFAULT_PORT
from easyremote.errors import GatewayNotFound, UsageError
from easyremote.security import credentials
from easyremote.security.credentials import Credential
from easyremote.security.files import check_private, config_folder, read_private, write_private
from easyremote.security.files import state_folder as state_folder

ADDRESS_VARIABLE = "EASYREMOTE_ADDRESS"
TOKEN_VARIABLE = "EASYREMOTE_TOKEN"
RUNTIME_VARIABLE = "EASYREMOTE_RUNTIME_DIR"
LOCAL_SOCKET_VARIABLE = "EASYREMOTE_LOCAL_SOCKET"
"""Set to 0: processes of one host talk over gRPC as well, as between machines."""

PLAINTEXT_VARIABLE = "EASYREMOTE_ALLOW_PLAINTEXT_NETWORK"
"""Set to 1: the same as `allow_plaintext_network=True` of a client or a node."""

_log = logging.getLogger("easyremote")

_MAX_SOCKET_PATH = 100  # bytes that fit into a socket's address everywhere

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A gateway's address with what opens it. `source` says where that was found, for messages.

    `is_own`: it is this user's own gateway on this machine, as its live connection file says, so that whatever comes from it is
    as good as what this process itself makes. Any other is somebody else's, also one behind a tunnel that begins here. It is
    looked up anew by `refresh`: the gateway may not have started when the endpoint was made.
    `tls`: spoken in TLS; with `fingerprint` (hexadecimal SHA-256 of the gateway's public key) only with the gateway that has
    this key, without it with one whose certificate the system trusts for this host.
    """

    address: str
    token: str
    source: str
    is_discovered: bool = False  # no token was given: it is the local gateway's own, found on this machine
    is_own: bool = False
    tls: bool = False
    fingerprint: str = ""
    others: tuple[
        str, ...
    ] = ()  # further addresses of the same gateway: which of them can be reached depends on from where

    def metadata(self, **extra: str) -> tuple[tuple[str, str], ...]:
        return (
            ("authorization", f"Bearer {self.token}"),
            *((key.replace("_", "-"), value) for key, value in extra.items()),
        )

    def __repr__(self) -> str:  # the token stays out of logs
        return f"Endpoint({self.address!r}, source={self.source!r})"


@dataclass(frozen=True, slots=True)
class ConnectionFile:
    """What a gateway leaves for the programs of its user. `birth` tells its process from a later one that has the same number;
    `fingerprint` is that of its key when it speaks TLS."""

    address: str
    token: str
    pid: int
    started: float
    host: str
    fingerprint: str = ""
    birth: str = ""


_in_this_process: dict[str, ConnectionFile] = {}


def runtime_folder() -> Path:
    """The folder of connection files, made with mode 0700."""
    configured = os.environ.get(RUNTIME_VARIABLE)
    if configured:
        folder = Path(configured)
    elif os.environ.get("XDG_RUNTIME_DIR"):
        folder = Path(os.environ["XDG_RUNTIME_DIR"]) / "easyremote"
    else:  # no session of a desktop or login manager; the home folder is this user's alone
        folder = Path(platformdirs.user_cache_dir("easyremote")) / "run"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def publish(record: ConnectionFile) -> Path:
    """Write the connection file of a gateway that runs in this process."""
    _in_this_process[record.address] = record
    path = runtime_folder() / f"gateway-{_port_of(record.address)}.json"
    write_private(path, json.dumps(asdict(replace(record, birth=_birth_of(record.pid)))).encode())
    return path


def withdraw(record: ConnectionFile) -> None:
    """Remove it again, unless another gateway has replaced it."""
    _in_this_process.pop(record.address, None)
    path = runtime_folder() / f"gateway-{_port_of(record.address)}.json"
    with contextlib.suppress(OSError, ValueError):
        if json.loads(path.read_text())["pid"] == record.pid:
            path.unlink()


def socket_path(address: str) -> Path | None:
    """Where this user's gateway at this address of this machine listens for its user's processes; None where it can't."""
    if not hasattr(socket, "AF_UNIX") or os.environ.get(LOCAL_SOCKET_VARIABLE) == "0":
        return None
    path = runtime_folder() / f"gateway-{_port_of(address)}.sock"
    return path if len(os.fsencode(path)) <= _MAX_SOCKET_PATH else None


def is_loopback(address: str) -> bool:
    """Whether what goes there stays on this machine; a tunnel that begins here sees to its bytes itself."""
    return _host_of(address) in _LOOPBACK


def is_local_gateway(address: str) -> bool:
    """Whether the gateway at this address runs in this very process."""
    return any(_same(address, known) for known in _in_this_process)


def given_address() -> str | None:
    """What the environment says."""
    return os.environ.get(ADDRESS_VARIABLE) or None


def find(
    address: str | None = None,
    token: str | None = None,
    allow_plaintext_network: bool = False,
    as_node: bool = False,
) -> Endpoint:
    """The gateway to use, for a client or for a node: they may have joined different ones. What goes to another machine goes in
    TLS, unless `allow_plaintext_network`.

    Raises GatewayNotFound, which lists all that was tried, when there is none; UsageError for an address that isn't one.
    """
    if address:
        return _with_token(normalize(address), token, "the given address", allow_plaintext_network, as_node)
    if from_environment := os.environ.get(ADDRESS_VARIABLE):
        return _with_token(normalize(from_environment), token, ADDRESS_VARIABLE, allow_plaintext_network, as_node)
    if _in_this_process:
        newest = max(_in_this_process.values(), key=lambda record: record.started)
        return _own(newest, token, "the gateway of this process")
    if files := _live_records():
        newest = max(files, key=lambda record: record.started)
        return _own(newest, token, "the connection file of this user")
    configured = _config_file()
    if configured.get("address"):
        token = token or configured.get("token")
        return _with_token(
            normalize(configured["address"]), token, "the configuration file", allow_plaintext_network, as_node
        )
    for credential in credentials.load_all():
        if credential.is_for_node if as_node else credential.is_for_client:
            return of_credential(credential, "the gateway that was joined")
    raise GatewayNotFound(
        f"no gateway found: no address was given, {ADDRESS_VARIABLE} is not set, no gateway of this user runs on this machine "
        f"(looked in {runtime_folder()}), and {_config_path()} names none, nor was one joined "
        f"{'as a node ' if as_node else ''}(looked in {credentials.folder()}). Start one with 'easyremote gateway' or "
        "Server().start_background(), or join one with an invitation: easyremote join er1:..."
    )


def refresh(endpoint: Endpoint) -> Endpoint:
    """Look the same gateway up again: after a restart its token may be another. One that was given stays."""
    if endpoint.tls and not endpoint.is_own:
        return endpoint  # the one that was joined, wherever a tunnel to it begins
    if not (endpoint.is_discovered or endpoint.is_own or is_loopback(endpoint.address)):
        return endpoint
    record = _record_of(endpoint.address)
    if record is None:
        return replace(endpoint, is_own=False)
    return _own(record, "" if endpoint.is_discovered else endpoint.token, endpoint.source)


def normalize(address: str) -> str:
    """ "host", "host:port" or "[v6]:port" as "host:port". Raises UsageError for anything else."""
    text = address.strip()
    for scheme in ("grpc://", "easyremote://"):
        text = text.removeprefix(scheme)
    host, _, port = text.rpartition(":") if ":" in text and not text.endswith("]") else (text, "", "")
    if not host or any(c.isspace() or c in "/@?#" for c in text) or (":" in host and not host.startswith("[")):
        raise UsageError(f"'{address}' is no gateway address; write it as host:port, e.g. gpu-gateway.example.org:8080")
    if not port:
        return f"{host}:{DEFAULT_PORT}"
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise UsageError(f"'{port}' in '{address}' is no port; ports are 1 to 65535")
    return f"{host}:{int(port)}"


def of_credential(credential: Credential, source: str) -> Endpoint:
    """The gateway that was joined."""
    first, *others = credential.addresses
    return Endpoint(
        first,
        credential.token,
        source,
        tls=bool(credential.fingerprint) or needs_tls(first, False),
        fingerprint=credential.fingerprint,
        others=tuple(others),
    )


def _with_token(address: str, token: str | None, source: str, allow_plaintext_network: bool, as_node: bool) -> Endpoint:
    token = token or os.environ.get(TOKEN_VARIABLE)
    if record := _record_of(address):
        return _own(record, token, source)
    for credential in credentials.load_all():
        if address in credential.addresses and (credential.is_for_node if as_node else credential.is_for_client):
            others = tuple(other for other in credential.addresses if other != address)
            found = replace(of_credential(credential, source), address=address, others=others)
            return replace(found, token=token or found.token)
    is_discovered = not token  # or will be: the gateway may not have started yet
    if not token:
        configured = _config_file()
        if configured.get("address") and normalize(configured["address"]) == address:
            token = configured.get("token")
            is_discovered = not token
    return Endpoint(address, token or "", source, is_discovered, tls=needs_tls(address, allow_plaintext_network))


def needs_tls(address: str, allow_plaintext_network: bool) -> bool:
    """Whether what goes there would cross a network without it."""
    if is_loopback(address):
        return False
    if not allow_plaintext_network and os.environ.get(PLAINTEXT_VARIABLE) != "1":
        return True
    _log.warning(
        "code, values and the token go to %s unprotected, as allow_plaintext_network says: whoever is on the way can read and "
        "change them",
        address,
    )
    return False


def _own(record: ConnectionFile, token: str | None, source: str) -> Endpoint:
    """This user's gateway of that record, opened by the given token or else by its own."""
    return Endpoint(
        record.address,
        token or record.token,
        source,
        is_discovered=not token,
        is_own=True,
        tls=bool(record.fingerprint),
        fingerprint=record.fingerprint,
    )


def _record_of(address: str) -> ConnectionFile | None:
    """Of this user's live gateway at that address."""
    for record in [*_in_this_process.values(), *_live_records()]:
        if _same(record.address, address):
            return record
    return None


def _live_records() -> list[ConnectionFile]:
    """Of this user's gateways on this machine. Raises AuthError for a file that others can read or replace."""
    records: list[ConnectionFile] = []
    for path in runtime_folder().glob("gateway-*.json"):
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):  # it may vanish, or be of another version
            record = _parse(read_private(path, "the token of a gateway"))
            if record.host == socket.gethostname() and _is_alive(record):  # home folders are shared between machines
                records.append(record)
    return records


def _parse(text: bytes) -> ConnectionFile:
    facts: dict[str, Any] = json.loads(text)
    return ConnectionFile(**{field.name: facts[field.name] for field in fields(ConnectionFile) if field.name in facts})


def _config_path() -> Path:
    return config_folder() / "config.toml"


def _config_file() -> dict[str, str]:
    path = _config_path()
    try:
        configured = tomllib.loads(path.read_text())
    except OSError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} isn't TOML: {error}") from error
    if configured.get("token"):
        check_private(path, "the token")
    return configured


def _is_alive(record: ConnectionFile) -> bool:
    """Whether the process that wrote it lives. Its number may have gone to another, whose port is anybody's."""
    try:
        os.kill(record.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's: the number was given away
        return False
    return not record.birth or record.birth == _birth_of(record.pid)


def _birth_of(pid: int) -> str:
    """When the process began, in the kernel's own count; empty where the system doesn't tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _same(one: str, other: str) -> bool:
    both_local = _host_of(one) in _LOOPBACK and _host_of(other) in _LOOPBACK
    return one == other or (both_local and _port_of(one) == _port_of(other))


def split_address(address: str) -> tuple[str, int]:
    """Host and port, for a socket."""
    return _host_of(address).strip("[]"), int(_port_of(address))


def _host_of(address: str) -> str:
    return address.rpartition(":")[0]


def _port_of(address: str) -> str:
    return address.rpartition(":")[2]
