"""The `easyremote` command. What a command does is imported when it runs, so that `--help` is there at once."""

from __future__ import annotations

import platform
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from easyremote._version import __version__
from easyremote.cli.exits import reported
from easyremote.cli.start import main as main
from easyremote.config import DRAIN_GRACE_S, GATEWAY_DRAIN_GRACE_S

# Lines of the help are broken here, for terminals of 80 columns: the help keeps them as they are.
_ABOUT = """\
Run Python functions on other machines.

A [bold]gateway[/] is what everyone dials; [bold]nodes[/] join it and offer functions; clients call them:

  easyremote gateway                 on a machine that everyone can reach
  easyremote node recipes:train      where the GPU is; recipes.py has train()
  easyremote call train epochs=3     from anywhere

Without --gateway it is the one that EASYREMOTE_ADDRESS names, else the newest
that you run on this machine, else the one that it has joined. Its token is EASYREMOTE_TOKEN; the token of a
gateway that you run on this machine is found without it.

[dim]Exit codes[/]
  0    done
  1    the remote function raised
  2    used wrongly
  3    no gateway, no node, or no answer in time
  4    refused by the gateway
  130  interrupted"""

app = typer.Typer(
    name="easyremote",
    help=_ABOUT,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"easyremote {__version__} (Python {platform.python_version()})")
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


Gateway = Annotated[
    str | None, typer.Option("--gateway", "-g", metavar="ADDRESS", help="host:port of the gateway.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Name = Annotated[
    str | None, typer.Option("--name", "-n", metavar="NAME", help="The node's name; made from the host's without it.")
]
Slots = Annotated[
    int | None, typer.Option("--slots", metavar="N", help="Calls at once; as many as there are CPUs without it.")
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A fact about the node; may be repeated.")
]
Cpus = Annotated[
    float | None,
    typer.Option("--cpus", metavar="N", help="Processors for calls that say what they need; all without it."),
]
Memory = Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Memory for them, e.g. 64GiB.")]
Gpus = Annotated[
    str | None, typer.Option("--gpus", metavar="N", help="GPUs for them: how many, or which, e.g. 0,2 or 1, for one.")
]
GpuMemory = Annotated[str | None, typer.Option("--gpu-memory", metavar="SIZE", help="Memory of each GPU for them.")]
Price = Annotated[
    float, typer.Option("--price", metavar="P", min=0.0, help="What one second of one call costs.", show_default=False)
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0.0,
        help="How long to wait for a gateway that isn't there yet.",
        show_default=False,
    ),
]


ValueMemory = Annotated[
    str | None,
    typer.Option(
        "--value-memory",
        metavar="SIZE",
        help="What values that stay may take, e.g. 8GiB; a quarter of the memory without it.",
    ),
]


WorkerMemory = Annotated[
    str | None,
    typer.Option(
        "--worker-memory",
        metavar="SIZE",
        help="What a call in a worker process may take that doesn't say what it needs, e.g. 8GiB; no limit without it.",
        show_default=False,
    ),
]

UseSandbox = Annotated[
    bool, typer.Option("--sandbox", help="Run what clients ship in a sandbox; needs bubblewrap.", show_default=False)
]

SandboxNetwork = Annotated[
    bool, typer.Option("--sandbox-network", help="The sandbox may use the network.", show_default=False)
]

SandboxRead = Annotated[
    list[str] | None,
    typer.Option("--sandbox-read", metavar="PATH", help="It sees this too. May be repeated.", show_default=False),
]

SandboxWrite = Annotated[
    list[str] | None,
    typer.Option("--sandbox-write", metavar="PATH", help="It may change this. May be repeated.", show_default=False),
]

SandboxEnv = Annotated[
    list[str] | None,
    typer.Option(
        "--sandbox-env",
        metavar="NAME",
        help="It sees this variable, e.g. HF_TOKEN. May be repeated.",
        show_default=False,
    ),
]


UseEnvironments = Annotated[
    bool | None,
    typer.Option(
        "--environments/--no-environments",
        help="Whether it builds environments with packages that calls ask for, with uv; without either: where it can.",
        show_default=False,
    ),
]

DrainGrace = Annotated[
    float,
    typer.Option(
        "--drain-grace",
        metavar="SECONDS",
        min=0.0,
        help="How long calls that run may go on after SIGTERM.",
    ),
]


NoAudit = Annotated[
    bool, typer.Option("--no-audit", help="Keep no audit log: who ran what, where, when.", show_default=False)
]
Code = Annotated[
    str,
    typer.Option(
        "--code",
        metavar="WHICH",
        help="Whose code it takes: signed by a trusted key, any, none; auto: any at your own gateway, else signed.",
    ),
]
Approve = Annotated[
    str,
    typer.Option(
        "--approve", metavar="ask", help="Show code that is new here before it runs, and ask.", show_default=False
    ),
]


@app.command()
def gateway(
    port: Annotated[
        int | None,
        typer.Option("--port", "-p", metavar="N", min=0, max=65535, help="8080, or any free one; 0: any free one."),
    ] = None,
    bind: Annotated[
        str,
        typer.Option("--bind", "--host", metavar="HOST", help="Where to listen; 0.0.0.0: on all interfaces, in TLS."),
    ] = "127.0.0.1",
    advertise: Annotated[
        list[str] | None,
        typer.Option(
            "--advertise", metavar="HOST:PORT", help="What invitations say; may be repeated.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What invitations call it.", show_default=False)
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option("--certificate", metavar="FILE", help="Its certificate's chain (PEM), if you have one."),
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="FILE", help="The key of it (PEM).")] = None,
    allow_plaintext_network: Annotated[
        bool,
        typer.Option("--allow-plaintext-network", help="No TLS: others on the way can read and change all, and steal."),
    ] = False,
    journal: Annotated[
        str | None,
        typer.Option("--journal", metavar="PATH", help="The file that keeps jobs.", show_default=False),
    ] = None,
    no_jobs: Annotated[bool, typer.Option("--no-jobs", help="Keep no jobs.")] = False,
    no_audit: NoAudit = False,
    show_token: Annotated[bool, typer.Option("--show-token", help="Print the token too.")] = False,
    as_json: Json = False,
    drain_grace: DrainGrace = GATEWAY_DRAIN_GRACE_S,
) -> None:
    """Start a gateway and keep it running.

    The token is random, or what EASYREMOTE_TOKEN says (at least 16 characters).
    Ctrl-C stops it at once. After SIGTERM it takes no new calls, and calls that
    run may end first; clients and nodes come back to the gateway that is started
    next.

    Jobs are calls that it keeps on disk: they go on when it is started again on
    the same port. Without --journal they are in your state folder, one file for
    each port (EASYREMOTE_STATE_DIR, or e.g. ~/.local/state/easyremote).

    With --bind it is reached from other machines, in TLS, and prints a line for
    each: for a node, and for a client. Each is good once, for an hour; more come
    from easyremote invite.

    [dim]Examples[/]
      easyremote gateway
      easyremote gateway --bind 0.0.0.0 --advertise gpu.example.org:8080
    """
    with reported():
        from easyremote.cli.gateway import NetworkOptions, run

        network = NetworkOptions(bind, advertise or (), name, certificate, key, allow_plaintext_network)
        run(port, network, as_json, show_token, drain_grace, False if no_jobs else journal or True, not no_audit)


@app.command()
def join(
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="INVITATION",
            help="er1:…, or host:port; '-' reads it from standard input; the gateway joined last without.",
            show_default=False,
        ),
    ] = None,
    name: Name = None,
    slots: Slots = None,
    cpus: Cpus = None,
    memory: Memory = None,
    gpus: Gpus = None,
    gpu_memory: GpuMemory = None,
    label: Labels = None,
    price: Price = 0.0,
    wait: Wait = 0.0,
    drain_grace: DrainGrace = DRAIN_GRACE_S,
    value_memory: ValueMemory = None,
    worker_memory: WorkerMemory = None,
    sandbox: UseSandbox = False,
    sandbox_network: SandboxNetwork = False,
    sandbox_read: SandboxRead = None,
    sandbox_write: SandboxWrite = None,
    sandbox_env: SandboxEnv = None,
    no_audit: NoAudit = False,
    code: Code = "auto",
    approve: Approve = "",
    environments: UseEnvironments = None,
) -> None:
    """Join a gateway with an invitation, as a node or as a client.

    The invitation (easyremote invite makes one) is exchanged once for a credential,
    which is kept in your configuration folder; then it works without, also after a
    reboot. It is hidden from the list of processes at once; 'join -' with it on standard
    input never shows it there. As a client that is all. As a node this machine takes functions and
    notebook cells that clients ship to it: it dials out, so it may be behind NAT or a firewall, and it reconnects by
    itself. Ctrl-C stops it at once. After SIGTERM it takes no new calls and those
    that run may end first; SIGTERM again, or Ctrl-C, stops it at once.

    [dim]Examples[/]
      easyremote join er1:CigxOTIu...
      easyremote join 127.0.0.1:8080 --name gpu-1 --label gpu=h100 --wait 60
    """
    with reported():
        from easyremote.cli.joining import gateway_for_node

        gateway = gateway_for_node(address)
        if gateway is None:  # it made this machine a client
            return
        from easyremote.cli.serving import NodeOptions, run
        from easyremote.cli.values import read_labels, read_offered, read_workers

        offered = read_offered(cpus, memory, gpus, gpu_memory, value_memory)
        workers = read_workers(
            worker_memory,
            sandbox,
            sandbox_network,
            sandbox_read,
            sandbox_write,
            sandbox_env,
            no_audit,
            code,
            approve,
            environments,
        )
        run(gateway, {}, NodeOptions(name, slots, read_labels(label or ()), price, wait, drain_grace, offered, workers))


@app.command()
def node(
    functions: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:FUNCTION", help="What to offer; …=NAME to call it NAME.", show_default=False),
    ],
    gateway: Gateway = None,
    name: Name = None,
    slots: Slots = None,
    cpus: Cpus = None,
    memory: Memory = None,
    gpus: Gpus = None,
    gpu_memory: GpuMemory = None,
    label: Labels = None,
    price: Price = 0.0,
    wait: Wait = 0.0,
    drain_grace: DrainGrace = DRAIN_GRACE_S,
    value_memory: ValueMemory = None,
    worker_memory: WorkerMemory = None,
    sandbox: UseSandbox = False,
    sandbox_network: SandboxNetwork = False,
    sandbox_read: SandboxRead = None,
    sandbox_write: SandboxWrite = None,
    sandbox_env: SandboxEnv = None,
    no_audit: NoAudit = False,
    code: Code = "auto",
    approve: Approve = "",
    environments: UseEnvironments = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why, with 'drain'.", show_default=False)
    ] = "",
) -> None:
    """Make this machine a node that offers functions from Python modules.

    Modules are looked for in the current folder first. Clients may ship functions
    and notebook cells of their own to it as well. It ends as easyremote join does.

    With drain NAME instead of functions it has the gateway give the node NAME no
    new calls, while those that run there go on; resume NAME takes that back.

    [dim]Examples[/]
      easyremote node recipes:train recipes:evaluate
      easyremote node recipes:train=train_model --gateway 127.0.0.1:8080 --slots 1
      easyremote node drain gpu-1 --reason "new driver"
    """
    with reported():
        if functions[0] in ("drain", "resume"):
            from easyremote.cli.draining import run as change

            change(functions, gateway, reason)
            return
        from easyremote.cli.serving import NodeOptions, load_functions, run
        from easyremote.cli.values import read_labels, read_offered, read_workers

        offered = read_offered(cpus, memory, gpus, gpu_memory, value_memory)
        workers = read_workers(
            worker_memory,
            sandbox,
            sandbox_network,
            sandbox_read,
            sandbox_write,
            sandbox_env,
            no_audit,
            code,
            approve,
            environments,
        )
        options = NodeOptions(name, slots, read_labels(label or ()), price, wait, drain_grace, offered, workers)
        run(gateway, load_functions(functions), options)


@app.command()
def invite(
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help="node, call, ship (code of one's own too) or admin.")
    ] = "node",
    expires: Annotated[str, typer.Option("--expires", metavar="SPAN", help="How long it is good, e.g. 30min.")] = "1h",
    once: Annotated[bool, typer.Option("--once", help="Good once; that is so without --uses, too.")] = False,
    uses: Annotated[int, typer.Option("--uses", metavar="N", min=1, help="How often it can be used.")] = 1,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="For lists.", show_default=False)] = "",
    function: Annotated[
        list[str] | None,
        typer.Option("--function", metavar="PATTERN", help="Only functions of such names; may be repeated."),
    ] = None,
    node: Annotated[
        list[str] | None, typer.Option("--node", metavar="PATTERN", help="Only nodes of such names; may be repeated.")
    ] = None,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Invite a machine or a person to a gateway: print the line to run there.

    The line has a secret, so pass it on as you would a password. It is exchanged
    for a credential that stays good until it is revoked.

    [dim]Examples[/]
      easyremote invite
      easyremote invite --role call --function "predict*" --uses 20
    """
    with reported():
        from easyremote.cli.joining import print_invitation

        print_invitation(gateway, as_json, role, expires, 1 if once else uses, name, function or (), node or ())


@app.command()
def tokens(
    action: Annotated[
        str, typer.Argument(metavar="[ACTION]", help="list, create or revoke.", show_default=False)
    ] = "list",
    token_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Which to revoke.", show_default=False)] = None,
    name: Annotated[str, typer.Option("--name", "-n", metavar="NAME", help="Whose it is.", show_default=False)] = "",
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="call, ship, serve or admin; may be repeated. Call without it."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="SPAN", help="How long it is good, e.g. 7d.", show_default=False)
    ] = None,
    function: Annotated[
        list[str] | None,
        typer.Option("--function", metavar="PATTERN", help="Only functions of such names; may be repeated."),
    ] = None,
    node: Annotated[
        list[str] | None, typer.Option("--node", metavar="PATTERN", help="Only nodes of such names; may be repeated.")
    ] = None,
    max_calls: Annotated[
        int, typer.Option("--max-calls", metavar="N", min=0, help="Calls at once.", show_default=False)
    ] = 0,
    max_bytes: Annotated[
        str | None, typer.Option("--max-bytes", metavar="SIZE", help="Of waiting calls, e.g. 64MiB.")
    ] = None,
    rate: Annotated[
        float, typer.Option("--rate", metavar="N", min=0.0, help="Calls a second.", show_default=False)
    ] = 0.0,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """List, create or revoke what opens a gateway, beside its own token.

    A new token is printed once; the gateway keeps only its digest. The options say
    what it allows. Who shows a token that is revoked is disconnected at once.

    [dim]Examples[/]
      easyremote tokens create --name lab --function "predict*" --expires 7d
      easyremote tokens revoke 3f9a01bc
    """
    with reported():
        from easyremote.cli.tokens import run

        options = {
            "expires": expires,
            "functions": function or (),
            "nodes": node or (),
            "max_calls": max_calls,
            "max_bytes": max_bytes,
            "calls_per_s": rate,
        }
        run(action, token_id, gateway, as_json, name, role, options)


@app.command()
def doctor(
    address: Annotated[
        str | None,
        typer.Argument(metavar="ADDRESS", help="host:port, or er1:…; found by itself without.", show_default=False),
    ] = None,
    role: Annotated[
        str | None, typer.Option("--role", metavar="ROLE", help="One that the token must have, e.g. node.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell what stands between this machine and a gateway.

    Step by step: DNS, TCP, TLS, fingerprint, token, version, role; the first that
    fails says what to do. An invitation isn't used up by that.

    [dim]Examples[/]
      easyremote doctor
      easyremote doctor gpu.example.org:8080 --role node
    """
    with reported():
        from easyremote.cli.doctor import run

        run(address, role, as_json)


class _NumbersAreArguments(TyperCommand):
    """`-2` is a number, not an option. JSON and Python both ignore the space that hides it from the parser."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [f" {arg}" if arg[:1] == "-" and arg[1:2].isdigit() else arg for arg in args])


@app.command(cls=_NumbersAreArguments)
def call(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The function's name.", show_default=False)],
    args: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ARGS", help="JSON, else a string; key=value for a keyword argument.", show_default=False
        ),
    ] = None,
    gateway: Gateway = None,
    node: Annotated[str | None, typer.Option("--node", metavar="NAME", help="Run it on this node.")] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Give up, and stop it, after so long.")
    ] = None,
    durable: Annotated[
        bool, typer.Option("--durable", help="Make it a job: print its id, and don't wait for it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Call a function and print its result.

    What it prints appears live, and a generator's items as they come. With --json
    each value is one line of JSON, and what it prints goes to standard error.

    Arguments are JSON where they can be: 3, true, null, '\\[1, 2]', '{"a": 1}'.
    Anything else is a string, and so is '"3"'. Ctrl-C stops the function.

    [dim]Examples[/]
      easyremote call add 1 2
      easyremote call train recipe.yaml epochs=3 --node gpu-1 --json
    """
    with reported():
        from easyremote.cli.calling import run

        run(name, args or (), gateway, node, timeout, as_json, durable)


@app.command()
def trust(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="er-key:…, as 'easyremote keys' shows it.", show_default=False)
    ],
    call_only: Annotated[bool, typer.Option("--call-only", help="It calls functions, and brings no code.")] = False,
    function: Annotated[
        list[str] | None,
        typer.Option("--function", metavar="PATTERN", help="It calls only these, and brings no code; may be repeated."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="WHEN", help="2027-01-01, or so long from now: 12h, 30d.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Of each of its calls, e.g. 8GiB.")
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", metavar="N", help="For each of its calls at most.")] = None,
    comment: Annotated[
        str, typer.Option("--comment", metavar="TEXT", help="Whose it is, for people.", show_default=False)
    ] = "",
) -> None:
    """Let the owner of a key use the nodes that you run on this machine.

    Whoever may bring code can do there whatever you can. With --call-only or
    --function it calls functions that the nodes offer, and no more. Trusting a key
    again replaces what was said of it. It holds from the next call on.

    [dim]Examples[/]
      easyremote trust er-key:… --comment "laptop of Ana"
      easyremote trust er-key:… --function 'predict*' --expires 30d
    """
    with reported():
        from easyremote.cli.keys import trust as run

        run(key, call_only, function or (), expires, memory, gpus, comment)


@app.command()
def keys(
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="KEY", help="Trust it no more: its fingerprint or comment.")
    ] = None,
    forget: Annotated[
        str | None, typer.Option("--forget", metavar="NODE", help="Trust the key that this node comes with next.")
    ] = None,
    accept: Annotated[
        tuple[str, str] | None, typer.Option("--accept", metavar="NODE FINGERPRINT", help="Know this node by that key.")
    ] = None,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Show your key, the keys that your nodes trust, and the nodes that you know.

    Your key is made where there is none yet. It stays on this machine; what is
    shown of it may be seen by anyone.

    [dim]Examples[/]
      easyremote keys
      easyremote keys --remove SHA256:…
    """
    with reported():
        from easyremote.cli.keys import run

        run(as_json, remove, forget, accept, gateway)


@app.command()
def environments(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]", help="Only these; may be repeated; first digits are enough.", show_default=False
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove those with these ids, unless in use.")] = False,
    remove_unused: Annotated[
        bool, typer.Option("--remove-unused", help="Remove all that nothing runs in, and what was downloaded.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the environments that your nodes have built on this machine.

    With ids, what is installed in them, too. None is removed that a node uses, and
    what was removed is built again when a function or a cell asks for it.

    [dim]Examples[/]
      easyremote environments
      easyremote environments --remove 3f9a01bc
    """
    with reported():
        from easyremote.cli.environments import run

        run(ids or (), remove, remove_unused, as_json)


@app.command()
def status(gateway: Gateway = None, as_json: Json = False) -> None:
    """Show a gateway, its nodes and the functions that can be called.

    What is measured on a node is at most some seconds old.

    [dim]Examples[/]
      easyremote status
      easyremote status --gateway 127.0.0.1:8080 --json
    """
    with reported():
        from easyremote.cli.status import run

        run(gateway, as_json)


@app.command()
def top(
    gateway: Gateway = None,
    lang: Annotated[
        str | None, typer.Option("--lang", metavar="LANG", help="en or zh; the locale's without.", show_default=False)
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="BY", help="name, cpu, memory, gpu, running or failed.")
    ] = "name",
) -> None:
    """Watch a gateway: its nodes, what runs and waits there, what failed lately.

    It is a live picture; q ends it and s sorts the nodes by something else. Into a
    pipe it prints one picture. In a notebook: %easyremote monitor.

    [dim]Examples[/]
      easyremote top
      easyremote top --sort gpu --lang zh
    """
    with reported():
        from easyremote.cli.top import run

        run(gateway, lang, sort)


@app.command()
def audit(
    last: Annotated[int, typer.Option("--last", "-n", metavar="N", min=1, max=1_000_000, help="The newest N.")] = 20,
    function: Annotated[
        str,
        typer.Option("--function", metavar="NAME", help="Of this function only; *, ? allowed.", show_default=False),
    ] = "",
    as_json: Json = False,
) -> None:
    """Show who ran what, where and when, and how it ended.

    It reads what gateways and nodes of this user have noted on this machine,
    running or not: audit-*.jsonl in the state folder (EASYREMOTE_STATE_DIR, or
    e.g. ~/.local/state/easyremote).

    [dim]Examples[/]
      easyremote audit
      easyremote audit --last 1000 --function 'train*' --json
    """
    with reported():
        from easyremote.cli.auditing import run

        run(last, function, as_json)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The function's name.", show_default=False)],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="OPTIONS", help="key=value: what the call would ask for.", show_default=False),
    ] = None,
    gateway: Gateway = None,
    as_json: Json = False,
) -> None:
    """Show where a call of a function could run, and what is in the way.

    Nothing is called. Options are those of client.with_options.

    [dim]Examples[/]
      easyremote explain train
      easyremote explain train node=gpu-1 cost_limit=5
    """
    with reported():
        from easyremote.cli.explaining import run

        run(name, options or (), gateway, as_json)


JobId = Annotated[
    str, typer.Argument(metavar="ID", help="The job's id, or enough of its first digits.", show_default=False)
]


@app.command()
def jobs(
    gateway: Gateway = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Only the newest N.")] = None,
    as_json: Json = False,
) -> None:
    """List the jobs that a gateway keeps, the newest first.

    A job is made with 'easyremote call NAME ARGS --durable', or in Python with
    client.submit_job(...). With --json each is one line.

    [dim]Examples[/]
      easyremote jobs
      easyremote jobs --limit 20 --json
    """
    with reported():
        from easyremote.cli.jobs import list_jobs

        list_jobs(gateway, limit, as_json)


@app.command()
def logs(
    job_id: JobId,
    gateway: Gateway = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """Print what a job printed, from its start.

    Ctrl-C ends the reading, not the job.

    [dim]Examples[/]
      easyremote logs 3f9a
      easyremote logs 3f9a -f
    """
    with reported():
        from easyremote.cli.jobs import print_logs

        print_logs(job_id, gateway, follow)


@app.command()
def result(
    job_id: JobId,
    gateway: Gateway = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="Wait no longer; the job goes on.")
    ] = None,
    save: Annotated[
        str | None, typer.Option("--save", metavar="FILE", help="Write it there as a pickle instead of printing it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Wait for a job's result and print it; of a generator, its items.

    What the job printed isn't shown: see 'easyremote logs'. Ctrl-C ends the
    waiting, not the job.

    [dim]Examples[/]
      easyremote result 3f9a
      easyremote result 3f9a --save model.pickle
    """
    with reported():
        from easyremote.cli.jobs import print_result

        print_result(job_id, gateway, timeout, save, as_json)


@app.command()
def cancel(
    job_id: JobId,
    gateway: Gateway = None,
    forget: Annotated[bool, typer.Option("--forget", help="Delete all that is kept of it, too.")] = False,
) -> None:
    """Stop a job.

    What it brought is still kept, unless it is forgotten.

    [dim]Examples[/]
      easyremote cancel 3f9a
      easyremote cancel 3f9a --forget
    """
    with reported():
        from easyremote.cli.jobs import cancel_job

        cancel_job(job_id, gateway, forget)
