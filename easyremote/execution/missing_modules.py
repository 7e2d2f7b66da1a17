"""What to do when a module that lies beside the notebook isn't where its code ran."""

from __future__ import annotations

import re

from easyremote import foreign
from easyremote.execution import local_modules
from easyremote.wire.v1 import gateway_pb2 as pb

_NAMED = re.compile(r"No module named '([A-Za-z_]\w*)")


def with_advice(info: pb.ErrorInfo) -> pb.ErrorInfo:
    """The error, and where it is one of these, what to do about it in its words."""
    if info.type != "ModuleNotFoundError":
        return info
    found = _NAMED.search(info.message)
    if found is None or local_modules.origin_of(found[1]).where != local_modules.BESIDE:
        return info
    name, node = found[1], foreign.name(info.node_id)
    advice = (
        f". {name} lies beside this notebook and isn't on node '{node}': `%easyremote ship {name}`, or "
        f'client.ship("{name}"), sends it along; then run what registers the function again'
    )
    told = pb.ErrorInfo()
    told.CopyFrom(info)
    told.message += advice
    told.traceback = f"{info.traceback.rstrip()}{advice}\n"
    return told


def advised(error: BaseException, info: pb.ErrorInfo) -> BaseException:
    """The same for the exception that was made of it."""
    if isinstance(error, ModuleNotFoundError):
        error.msg = info.message
        error.args = (info.message,)
    return error
