"""Pipelines of a cluster's client: what redis-py's ``ClusterPipeline`` offers beyond a pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol, Self

from redis.commands.helpers import list_or_args
from redis.crc import key_slot

from redisutils.client.pipeline import Pipeline, PipelineClient
from redisutils.errors import ConfigError

__all__ = ["ClusterPipeline", "pairs_by_slot"]

TARGETS = "target_nodes"


class _Client(PipelineClient, Protocol):
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
