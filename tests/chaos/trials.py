"""All trials: importing them enters their promises."""

from __future__ import annotations

from tests.chaos import keeping, limits, links, losing, networks, noticing, returning, stopping, versions

__all__ = ["keeping", "limits", "links", "losing", "networks", "noticing", "returning", "stopping", "versions"]
