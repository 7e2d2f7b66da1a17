"""`easyremote gateway`."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from easyremote._version import __version__
from easyremote.cli.exits import tell
from easyremote.cli.signals import StopSignals
from easyremote.discovery import TOKEN_VARIABLE
from easyremote.server import Server


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How others reach it."""

    bind: str = "127.0.0.1"
    advertise: Sequence[str] = ()
    name: str | None = None
    certificate: str | None = None
    key: str | None = None
    allow_plaintext_network: bool = False


def run(
    port: int | None,
    network: NetworkOptions,
    as_json: bool,
    show_token: bool,
    drain_grace_s: float,
    journal: str | bool,
    audit: bool,
) -> None:
    """A gateway, until a signal ends it. SIGTERM lets the calls that run end for `drain_grace_s` seconds."""
    with StopSignals() as signals:
        token = os.environ.get(TOKEN_VARIABLE) or None
        server = Server(
            port,
            network.bind,
            token=token,
            journal=journal,
            audit=audit,
            certificate=network.certificate,
            key=network.key,
            advertise=network.advertise,
            name=network.name,
            allow_plaintext_network=network.allow_plaintext_network,
        ).start_background()
        try:
            signals.ready()
            print(_as_json(server, show_token) if as_json else _as_text(server, show_token), flush=True)
            if signals.wait() == signal.SIGTERM:
                count = server.open_calls
                if count and drain_grace_s and not as_json:
                    tell(
                        f"The gateway takes no new calls, and waits up to {drain_grace_s:g} s for running calls: {count}."
                    )
                server.drain_as_told(drain_grace_s)
        finally:
            server.stop()
    if not as_json:
        tell("The gateway has stopped.")


def _as_json(server: Server, show_token: bool) -> str:
    facts = {"address": server.address, "port": server.port, "pid": os.getpid(), "version": __version__}
    if server.addresses:
        facts |= {"addresses": server.addresses, "fingerprint": server.fingerprint}
    return json.dumps(facts | {"token": server.token} if show_token else facts)


def _as_text(server: Server, show_token: bool) -> str:
    if server.addresses:
        return _as_text_of_network(server)
    address = server.address
    token = f"\n  Token          {server.token}" if show_token else ""
    if os.environ.get(TOKEN_VARIABLE):
        who = f"Nodes and clients elsewhere need the same {TOKEN_VARIABLE} as this gateway was started with."
    else:
        who = (
            f"Programs of this user on this machine find the token by themselves; others need it in {TOKEN_VARIABLE}\n"
            "(--show-token prints it)."
        )
    return f"""\
EasyRemote gateway {__version__} at {address}

  Add a node     easyremote join {address}
  See its state  easyremote status --gateway {address}
  Call           easyremote call NAME ARGS... --gateway {address}
  In Python      easyremote.Client("{address}").call("name", ...)
  From afar      start it with --bind 0.0.0.0, and it tells how others join{token}

{who}
Ctrl-C stops the gateway."""


def _as_text_of_network(server: Server) -> str:
    node, client = server.invite("node"), server.invite("ship")
    how = f"in TLS, key SHA256 {server.fingerprint[:16]}…" if server.fingerprint else "WITHOUT TLS"
    return f"""\
EasyRemote gateway {__version__} at {", ".join(server.addresses)}, {how}

On the machine that is to be a node:
  easyremote join {node}

In the notebook, or the shell, that is to call:
  %easyremote connect {client}
  easyremote join {client}

Each of the two is a secret that is good once, for an hour. More: easyremote invite --role node|call|ship|admin
Programs of this user on this machine need none. If others can't reach these addresses: --advertise HOST:PORT
Ctrl-C stops the gateway."""
