"""Where the primary is, and when what the sentinels say is enough to believe that it has moved.

Who is right among those that disagree: :func:`redisutils.topology.sentinel.answers.decide`. Here is
remembered what was found before, and with it

* what is found is taken at once if a majority of all that there are says so: those that are missing
  can change nothing. Else only when nobody is waited for any more;
* an older epoch than was known before is taken after ``BEHIND`` seconds, if such a majority stays
  with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from time import monotonic
from typing import Final

from redisutils.address import Address
from redisutils.topology.sentinel.answers import Answer, Primary, backers, decide

__all__ = ["BEHIND", "Whereabouts"]

BEHIND: Final = 10.0
"""Seconds after which an older epoch is taken, if a majority of all sentinels stays with it: they
were set up anew. Who has just not heard of a failover does within two."""


class Whereabouts:
    """See the module's docstring.

    Args:
        on_moved: called with the old and the new address.
        on_begun_anew: called before an older epoch is taken.
        clock: seconds, such as ``time.monotonic``.
    """

    __slots__ = ("_behind_since", "_clock", "_on_begun_anew", "_on_moved", "present")

    def __init__(
        self,
        on_moved: Callable[[Address, Address], None],
        on_begun_anew: Callable[[], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.present: Primary | None = None
        """Where it is, as far as is known."""
        self._on_moved = on_moved
        self._on_begun_anew = on_begun_anew
        self._clock = clock
        self._behind_since: float | None = None

    @property
    def is_behind(self) -> bool:
        """Whether all that answered last spoke of an older epoch than is known."""
        return self._behind_since is not None

    def contradicted_by(self, answer: Answer) -> bool:
        """Whether it names another primary, of a later failover than is known."""
        present = self.present
        return (
            present is not None
            and answer.address not in (None, present.address)
            and answer.epoch > present.epoch
        )

    def decide(self, answers: Collection[Answer], size: int, *, final: bool) -> bool:
        """Believe what these say, if that is enough.

        Args:
            size: how many sentinels there are.
            final: whether nobody else is waited for.

        Returns whether there is nothing more to wait for.
        """
        found = decide(answers, self.present)
        if found is None:
            return self._begin_anew(answers, size) if final else False
        sure = 2 * backers(answers, found) > size
        if sure or final:
            self._adopt(found)
        return sure

    def _begin_anew(self, answers: Collection[Answer], size: int) -> bool:
        """All that answer speak of an older epoch than is known, or of none."""
        found = decide(answers, None)
        if found is None or 2 * backers(answers, found) <= size:
            self._behind_since = None
            return False
        now = self._clock()
        if self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since >= BEHIND:
            self._on_begun_anew()
            self._adopt(found)
        return True

    def _adopt(self, found: Primary) -> None:
        self._behind_since = None
        old, self.present = self.present, found
        if old is not None and old.address != found.address:
            self._on_moved(old.address, found.address)
