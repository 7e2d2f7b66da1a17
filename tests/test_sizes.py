"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote.errors import UsageError
from easyremote.sizes import LARGEST, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12GiB", 12 * 2**30),
        ("500MB", 500 * 10**6),
        ("1.5 GiB", 3 * 2**29),
        (" 4kib ", 4096),
        ("7", 7),
        ("0", 0),
        ("2TB", 2 * 10**12),
        (2**34, 2**34),
        (0, 0),
    ],
)
def test_a_size_is_a_number_of_bytes_or_a_number_with_a_unit(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "wrong",
    ["", "GiB", "12 G", "12GiBs", "-1GiB", "1e3MB", "1,5GB", -1, 1.5, True, None, LARGEST + 1, "2000TiB", "٣GB"],
)
def test_anything_else_is_refused_with_what_is_accepted(wrong: object) -> None:
    with pytest.raises(UsageError, match="gpu_memory is a size"):
        parse_size(wrong, "gpu_memory")


@given(st.integers(0, LARGEST))
def test_what_people_are_shown_can_be_written_again_and_means_about_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.05)
