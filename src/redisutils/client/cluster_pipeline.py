"""Pipelines of a cluster's client: what redis-py's ``ClusterPipeline`` offers beyond a pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from redis.commands.helpers import list_or_args
from redis.crc import key_slot
from redis.exceptions import ResponseError

from redisutils.client.pipeline import Pipeline, PipelineClient
from redisutils.client.source import Source
from redisutils.commands import keys_of
from redisutils.errors import ConfigError, CrossSlot, code_of
from redisutils.topology.cluster.keys import shown, the_slot

__all__ = ["ClusterPipeline", "pairs_by_slot"]

TARGETS = "target_nodes"


class _Client(PipelineClient, Protocol):
    _source: Source

    async def execute_command(self, *args: Any, **options: Any) -> Any: ...


class ClusterPipeline(Pipeline):
    """A pipeline whose commands go to the nodes that own their keys, at the same time.

    ==================================  ==================================================
    redis-py's ClusterPipeline          here
    ==================================  ==================================================
    many keys in DEL, EXISTS, UNLINK:   one answer
    an answer for each slot
    a transaction with keys of several  ``CrossSlot``, which is a ``RedisClusterException``
    slots: ``CrossSlotTransactionError``
    ``allow_redirections=False``        refused: redirections are followed in order
    commands with ``target_nodes=``     at the same time as the others, in no order to them
    ==================================  ==================================================
    """

    _client: _Client
    _slot: int | None = None
    """Of what is watched."""

    @property
    def cluster_client(self) -> Any:
        """The client that made it."""
        return self._client

    async def initialize(self) -> Self:
        """redis-py's: nothing needs to be done."""
        return self

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Queue a command. ``target_nodes=`` sends it to certain nodes, as it does with the client;
        not within a transaction.

        Raises:
            ConfigError
        """
        if options.get(TARGETS):
            if self._in_transaction or self.watching:
                raise ConfigError(
                    f"target_nodes={options[TARGETS]!r}: a transaction goes to the node that owns "
                    "its keys; pipeline(transaction=False) can send commands to others"
                )
        else:
            options.pop(TARGETS, None)
        return super().execute_command(*args, **options)

    def mget_nonatomic(self, keys: Any, *args: Any) -> Any:
        """MGET of keys in any slots."""
        return self.execute_command("MGET", *list_or_args(keys, args))

    def mset_nonatomic(self, mapping: Mapping[Any, Any]) -> Self:
        """An MSET for each slot, and so an answer for each."""
        for pairs in pairs_by_slot(mapping, self._client.get_encoder().encode).values():
            self.execute_command("MSET", *pairs)
        return self

    async def execute(
        self, raise_on_error: bool = True, allow_redirections: bool = True
    ) -> list[Any]:
        """See ``Pipeline.execute``.

        Raises, beyond that:
            ConfigError: ``allow_redirections`` is False.
            CrossSlot: it is a transaction, and its keys live in several slots.
        """
        if not allow_redirections:
            raise ConfigError("allow_redirections=False: redirections are always followed")
        return await super().execute(raise_on_error)

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """See ``Pipeline.immediate_execute_command``. A slot that has moved is followed by the
        first WATCH.

        Raises, beyond that:
            CrossSlot: keys of another slot are watched.
        """
        slot = the_slot(args)
        self._check(slot, keys_of(args))
        try:
            answer = await super().immediate_execute_command(*args, **options)
        except ResponseError as error:
            lease = self._lease
            if self.watching or lease is None or code_of(error) != "MOVED":
                raise
            server = self._client._source.server()
            redirected = server.redirected(error)
            if redirected is None:
                raise
            server.metrics.retried("MOVED")
            self._lease = None
            lease.release()
            self._lease = await redirected.checkouts.patiently(self._client._timeout)
            answer = await super().immediate_execute_command(*args, **options)
        if self.watching and slot is not None:
            self._slot = slot
        return answer

    async def _send(self, commands: list[tuple[Any, ...]], stack: Any) -> list[Any]:
        if self.watching:
            for args in commands:
                self._check(the_slot(args), keys_of(args))
        return await super()._send(commands, stack)

    def _check(self, slot: int | None, keys: Sequence[bytes]) -> None:
        if self.watching and None not in (slot, self._slot) and slot != self._slot:
            raise CrossSlot(
                f"the key {shown(keys[0])} lives in slot {slot}, and this pipeline watches keys of "
                f"slot {self._slot}, at their owner: give keys that belong together the same hash "
                "tag, or read it before watch() or with the client"
            )

    async def reset(self) -> None:  # type: ignore[override]  # as redis-py's: RESET, the command, is another
        """See ``Pipeline.reset``."""
        self._slot = None
        await super().reset()

    async def _plain(self, stack: Any, raise_on_error: bool) -> list[Any]:
        aside = [place for place, (_, options) in enumerate(stack) if TARGETS in options]
        if not aside:
            return await super()._plain(stack, raise_on_error)
        rest = [item for _, item in enumerate(stack) if TARGETS not in item[1]]
        asked = [
            self._client.execute_command(*stack[place][0], **stack[place][1]) for place in aside
        ]
        sent: list[Any] = [super()._plain(rest, False)] if rest else []
        answers = await asyncio.gather(*sent, *asked, return_exceptions=True)
        results: list[Any] = []
        if rest:
            ordinary = answers[0]
            if isinstance(ordinary, BaseException):
                raise ordinary
            results, answers = list(ordinary), answers[1:]
        for place, answer in zip(aside, answers, strict=True):
            results.insert(place, answer)
        if raise_on_error:
            self.raise_first_error(stack, results)
        return results


def pairs_by_slot(mapping: Mapping[Any, Any], encode: Any) -> dict[int, list[Any]]:
    """Keys and values in turn, by the keys' slots."""
    slots: dict[int, list[Any]] = {}
    for key, value in mapping.items():
        slots.setdefault(int(key_slot(encode(key))), []).extend((key, value))
    return slots
