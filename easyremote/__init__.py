"""EasyRemote: run the function that you just wrote on another machine, as if it were local.

The public names are loaded when they are first used, so that importing the package costs almost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from easyremote._version import __version__ as __version__

if TYPE_CHECKING:
    from easyremote.calls import Call as Call
    from easyremote.captures import CapturedItem as CapturedItem
    from easyremote.captures import CaptureExplanation as CaptureExplanation
    from easyremote.captures import NeededModule as NeededModule
    from easyremote.captures import ShippedModule as ShippedModule
    from easyremote.client import Client as Client
    from easyremote.config import GatewaySettings as GatewaySettings
    from easyremote.config import JobSettings as JobSettings
    from easyremote.core.strategies import register_strategy as register_strategy
    from easyremote.current import current_call as current_call
    from easyremote.errors import *  # noqa: F403
    from easyremote.execution.sandbox import Sandbox as Sandbox
    from easyremote.jobs import Job as Job
    from easyremote.model import CurrentCall as CurrentCall
    from easyremote.model import Explanation as Explanation
    from easyremote.model import FunctionInfo as FunctionInfo
    from easyremote.model import GatewayInfo as GatewayInfo
    from easyremote.model import GpuInfo as GpuInfo
    from easyremote.model import JobInfo as JobInfo
    from easyremote.model import NodeInfo as NodeInfo
    from easyremote.model import NodeOutlook as NodeOutlook
    from easyremote.model import RestInfo as RestInfo
    from easyremote.model import TokenInfo as TokenInfo
    from easyremote.node import ComputeNode as ComputeNode
    from easyremote.refs import Ref as Ref
    from easyremote.remote_function import RemoteFunction as RemoteFunction
    from easyremote.remote_node import RemoteNode as RemoteNode
    from easyremote.reporting import progress as progress
    from easyremote.reporting import track as track
    from easyremote.server import Server as Server
    from easyremote.wire.known_types import register_type as register_type

_HOMES = {
    "Call": "calls",
    "CaptureExplanation": "captures",
    "CapturedItem": "captures",
    "Client": "client",
    "ComputeNode": "node",
    "CurrentCall": "model",
    "Explanation": "model",
    "FunctionInfo": "model",
    "GatewayInfo": "model",
    "GatewaySettings": "config",
    "GpuInfo": "model",
    "Job": "jobs",
    "JobInfo": "model",
    "JobSettings": "config",
    "NeededModule": "captures",
    "NodeInfo": "model",
    "NodeOutlook": "model",
    "Ref": "refs",
    "RemoteFunction": "remote_function",
    "RemoteNode": "remote_node",
    "RestInfo": "model",
    "TokenInfo": "model",
    "ShippedModule": "captures",
    "Sandbox": "execution.sandbox",
    "Server": "server",
    "current_call": "current",
    "progress": "reporting",
    "register_strategy": "core.strategies",
    "register_type": "wire.known_types",
    "track": "reporting",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is not None:
        return getattr(import_module(f"easyremote.{home}"), name)
    if name == "__all__":  # here, so that the errors are loaded for `import *` alone
        return ["__version__", *_HOMES, *import_module("easyremote.errors").__all__]
    if not name.startswith("_"):
        errors = import_module("easyremote.errors")
        if name in errors.__all__:
            return getattr(errors, name)
    raise AttributeError(f"module 'easyremote' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *import_module("easyremote.errors").__all__])


def load_ipython_extension(ipython: Any) -> None:
    """What `%load_ext easyremote` calls."""
    import_module("easyremote.notebook").load_ipython_extension(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """What `%unload_ext easyremote` calls."""
    import_module("easyremote.notebook").unload_ipython_extension(ipython)
