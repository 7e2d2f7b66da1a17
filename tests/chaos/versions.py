"""Peers of other versions: R14."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from random import Random
from typing import Any

import grpc

from easyremote import _version
from easyremote.config import PROTOCOL_VERSION
from easyremote.runtime import this_runtime
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.chaos.load import Outcome
from tests.chaos.promises import Trial, promise
from tests.chaos.stage import TOKEN, Stage, stage


@promise(
    "R14",
    "versions",
    "A peer of a protocol that the gateway doesn't speak, and code of another Python, are refused at once, both versions named.",
    trials="strangers' hellos, and calls with code of another Python",
    figure="",
    share=0.3,
)
def versions(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        on.gateway()
        on.node("node")

        def trial(rng: Random) -> Outcome:
            return rng.choice((_other_protocol, _other_python))(on, rng)

        yield trial


def _talk(on: Stage, *frames: pb.Frame) -> list[pb.Frame]:
    """Say this and hear what comes, until a refusal or a verdict."""
    heard: list[pb.Frame] = []
    with grpc.insecure_channel(on.address) as channel:
        session: Any = channel.stream_stream(
            "/easyremote.v1.Gateway/Session",
            request_serializer=pb.Batch.SerializeToString,
            response_deserializer=pb.Batch.FromString,
        )
        batches = session(
            iter([pb.Batch(frames=[frame]) for frame in frames]),
            metadata=[("authorization", f"Bearer {TOKEN}")],
            timeout=10,
        )
        for batch in batches:
            heard += batch.frames
            if {"refused", "verdict"} & {frame.WhichOneof("body") for frame in heard}:
                break
        batches.cancel()
    return heard


def _hello(rng: Random) -> pb.Hello:
    return pb.Hello(
        protocol_min=1,
        protocol_max=PROTOCOL_VERSION,
        role=pb.ROLE_CLIENT,
        session_id=secrets.token_bytes(16),
        runtime=this_runtime(),
    )


def _other_protocol(on: Stage, rng: Random) -> Outcome:
    hello = _hello(rng)
    hello.protocol_min = PROTOCOL_VERSION + rng.randint(1, 1000)
    hello.protocol_max = hello.protocol_min + rng.randint(0, 3)
    hello.runtime.easyremote = f"{rng.randint(10, 99)}.{rng.randint(0, 9)}.0"
    heard = _talk(on, pb.Frame(hello=hello))
    refused = heard[0].refused
    named = all(version in refused.message for version in (hello.runtime.easyremote, _version.__version__))
    is_right = refused.code == "protocol" and named
    return Outcome(1, [] if is_right else [f"it was answered with {heard!r:.300}"])


def _other_python(on: Stage, rng: Random) -> Outcome:
    python = f"3.{rng.choice((7, 8, 9, 10, 30))}"
    submit = pb.Submit(call_id=secrets.token_bytes(16), code=pb.Code(python=python))
    submit.code.payload.data = b"it is never loaded"
    heard = _talk(on, pb.Frame(hello=_hello(rng)), pb.Frame(submit=submit))
    error = next((frame.verdict.error for frame in heard if frame.HasField("verdict")), pb.ErrorInfo())
    named = python in error.message and this_runtime().python.rpartition(".")[0] in error.message
    return Outcome(1, [] if error.code == "environment_mismatch" and named else [f"it was told {error!r:.300}"])
