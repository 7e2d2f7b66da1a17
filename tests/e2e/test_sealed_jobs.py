"""Tests of jobs once more, sealed."""

from __future__ import annotations

from tests.e2e import test_jobs
from tests.e2e.sealed import sealing, take

__all__ = ["sealing"]

take(
    test_jobs,
    globals(),
    "found_again|shipped|cell|together|replayed|readers|outlive|killed|whose_node|large_arguments|twice",
)
