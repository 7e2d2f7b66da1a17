"""`easyremote status`."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from easyremote import foreign
from easyremote.cli.json_text import json_text
from easyremote.client import Client
from easyremote.model import FunctionInfo, GatewayInfo, GpuInfo, NodeInfo, RestInfo
from easyremote.sizes import format_span

WIDTH_OF_PIPES = 120


def run(gateway: str | None, as_json: bool) -> None:
    """Print what the gateway knows."""
    with Client(gateway) as client:
        about, nodes, functions = client.gateway_info(), client.list_nodes(), client.list_functions()
    if as_json:
        print(
            json_text(
                {
                    "gateway": about.to_dict(),
                    "nodes": [node.to_dict() for node in nodes],
                    "functions": [function.to_dict() for function in functions],
                }
            )
        )
        return
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_OF_PIPES)
    console.print(view(about, nodes, functions))


def view(about: GatewayInfo, nodes: Sequence[NodeInfo], functions: Sequence[FunctionInfo]) -> RenderableType:
    """What a person sees."""
    parts: list[RenderableType] = [_head(about)]
    if nodes:
        parts.append(_nodes_table(nodes))
        parts += [_draining(node) for node in nodes if node.draining]
        parts += [_resting(node, rest) for node in nodes for rest in node.resting]
    else:
        parts.append(Text(f"\nNo node is connected. Add one with: easyremote join {about.address}"))
    if any(node.gpus for node in nodes):
        parts.append(_gpus_table(nodes))
    if functions:
        parts.append(_functions_table(functions))
    elif nodes:
        parts.append(Text("\nNo function is registered; clients can still ship their own."))
    return Group(*parts)


def _head(about: GatewayInfo) -> Text:
    others = about.clients - 1  # this command is a client too
    head = Text("Gateway ").append(about.address, "bold")
    return head.append(
        f"  version {foreign.name(about.version)}, up {format_span(about.uptime_s)}, {about.running} running, "
        f"{about.queued} queued, {others} other client{'' if others == 1 else 's'}"
    )


def _table(title: str) -> Table:
    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )


def _nodes_table(nodes: Sequence[NodeInfo]) -> Table:
    table = _table(f"\nNodes ({len(nodes)})")
    table.add_column("Name", overflow="fold", style="cyan", min_width=12)
    table.add_column("Status", no_wrap=True)
    for name in ("Running", "CPU", "Memory", "GPUs", "Functions"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Host", overflow="fold")
    table.add_column("Python", no_wrap=True)
    for node in nodes:
        measured = node.resources
        table.add_row(
            foreign.name(node.node_id),
            Text(foreign.name(node.status), "green" if node.status == "connected" else "yellow"),
            f"{node.running} of {node.slots}",
            f"{measured['cpu_percent']:.0f} %" if measured else "",
            gib(measured["memory_used_bytes"], measured["memory_total_bytes"]) if measured else "",
            str(len(node.gpus)),
            str(len(node.functions)),
            foreign.name(node.host.split(".")[0]),
            foreign.name(node.python),
        )
    return table


def _resting(node: NodeInfo, rest: RestInfo) -> Text:
    what = f"'{foreign.name(rest.function)}'" if rest.function else "everything"
    until = "one call tries it now" if rest.is_probed else f"for {rest.rests_s:.0f} s more" if rest.rests_s else "due"
    return Text(f"{foreign.name(node.node_id)} rests from {what}, {until}: {foreign.name(rest.reason, 1000)}", "yellow")


def _draining(node: NodeInfo) -> Text:
    return Text(f"{foreign.name(node.node_id)} takes no new calls: {foreign.name(node.draining, 1000)}", "yellow")


def _gpus_table(nodes: Sequence[NodeInfo]) -> Table:
    table = _table("\nGPUs")
    table.add_column("Node", overflow="fold", style="cyan")
    table.add_column("GPU", overflow="fold")
    for name in ("Use", "Memory", "Calls", "Temperature", "Power"):
        table.add_column(name, justify="right", no_wrap=True)
    for node in nodes:
        for gpu in node.gpus:
            table.add_row(
                foreign.name(node.node_id),
                f"{gpu.index}: {foreign.name(gpu.name)}" + (f" ({foreign.name(gpu.lost)})" if gpu.lost else ""),
                f"{gpu.utilization_percent:.0f} %",
                gib(gpu.memory_used_bytes, gpu.memory_total_bytes),
                calls_on(gpu),
                f"{gpu.temperature_c:.0f} °C",
                f"{gpu.power_w:.0f} W",
            )
    return table


def _functions_table(functions: Sequence[FunctionInfo]) -> Table:
    table = _table(f"\nFunctions ({len(functions)})")
    table.add_column("Function", overflow="fold")
    table.add_column("Kind", no_wrap=True)
    table.add_column("Nodes", overflow="fold")
    for function in functions:
        table.add_row(
            Text(foreign.name(function.name), "cyan").append(foreign.name(function.signature, 1000), "default"),
            function.kind.replace("_", " "),
            foreign.name(", ".join(function.nodes), 1000),
        )
    return table


def calls_on(gpu: GpuInfo) -> str:
    """`1 alone`, `2: 12 GiB`; what they said that they need, not what they use. Empty: none."""
    if not gpu.calls:
        return ""
    return f"{gpu.calls} alone" if gpu.is_exclusive else f"{gpu.calls}: {gpu.held_bytes / 2**30:.1f} GiB"


def gib(used_bytes: float, total_bytes: float) -> str:
    """`12.3 of 80 GiB`, with decimals where they matter."""
    used, total = used_bytes / 2**30, total_bytes / 2**30
    return f"{used:.{1 if used < 100 else 0}f} of {total:.{1 if total < 20 else 0}f} GiB"
