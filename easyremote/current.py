"""What a function may know of the call that it runs for."""

from __future__ import annotations

from easyremote.model import CurrentCall


def current_call() -> CurrentCall | None:
    """The call that runs here: its id, node, attempt, GPUs and deadline. None in a function that isn't called through EasyRemote.

    In a worker process CUDA_VISIBLE_DEVICES is set to the call's GPUs already, so CUDA counts them from 0. A function that runs
    in its owner's process has to choose them itself, by `current_call().gpus`.
    """
    from easyremote.execution.context import current

    emitter = current.get()
    return emitter.facts() if emitter is not None else None
