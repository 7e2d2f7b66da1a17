"""The promises, each with the trials that try to break it.

A promise is a context that sets the stage and gives a function; it is told how many seconds it has. Each call of the function is
one trial, with a generator of its own whose seed is printed. Trials go on until the promise's share of the time is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from random import Random

from tests.chaos.load import Outcome

Trial = Callable[[Random], Outcome]
Begin = Callable[[float], Iterator[Trial]]


@dataclass(frozen=True)
class Promise:
    """`figure`: what `Outcome.worst` is; `bound`: what it may be at most, where the promise names a number. `share`: of the time,
    relative to the others'. `trials`: what is counted. `typical`: the figure is the median of the trials', and not the worst, so
    that other work of this machine doesn't decide."""

    key: str
    name: str
    text: str
    trials: str
    figure: str
    bound: float | None
    share: float
    typical: bool
    begin: Callable[[float], AbstractContextManager[Trial]]


class NotHere(Exception):
    """This machine doesn't allow what the trials of a promise need; the text says what."""


PROMISES: dict[str, Promise] = {}


def promise(
    key: str,
    name: str,
    text: str,
    *,
    trials: str,
    figure: str,
    bound: float | None = None,
    share: float = 1.0,
    typical: bool = False,
) -> Callable[[Begin], Begin]:
    """Enter the trials that this context gives."""

    def enter(begin: Begin) -> Begin:
        made = Promise(key, name, text, trials, figure, bound, share, typical, contextmanager(begin))
        PROMISES[f"{key} {name}"] = made
        return begin

    return enter
