"""The parts of a latency are told apart wherever they are shown."""

from __future__ import annotations

import pytest

from redisutils.cli.parts import legend, parts_bar
from redisutils.metrics import PARTS


@pytest.mark.parametrize("pictures", [True, False])
def test_each_part_has_a_mark_of_its_own(pictures: bool) -> None:
    bar = parts_bar(dict.fromkeys(PARTS, 1.0), len(PARTS), pictures=pictures).plain
    assert len(set(bar)) == len(PARTS)
    words = legend(pictures=pictures).plain.split()
    assert [mark for mark in words if mark in bar] == list(bar)
    assert pictures or bar.isascii()
