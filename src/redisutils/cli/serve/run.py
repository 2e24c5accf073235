"""From the options of ``redisutils serve`` to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from redisutils import RedisConfig, create_redis_pool
from redisutils.cli.loading import load
from redisutils.cli.log import configure_logging
from redisutils.cli.running import loop_factory
from redisutils.cli.serve.hosting import CannotListen, Host, addresses, listen
from redisutils.errors import ConfigError, RedisUtilsError
from redisutils.monitor.access import LONGEST, check_token
from redisutils.monitor.app import MonitorApp, monitor_app
from redisutils.monitor.probing import probing
from redisutils.secret import Secret

__all__ = ["TOKEN", "Options", "run"]

TOKEN: Final = "REDISUTILS_TOKEN"  # noqa: S105  # its name, not the token
"""The variable of the environment that may hold the token."""

_BOUND: Final = 10.0
"""Seconds after which a stop that does not come to its end is one all the same."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    url: Secret | None = None
    """The server; None for the one that the environment names."""
    host: str = "127.0.0.1"
    port: int = 9121
    token_file: Path | None = None
    no_token: bool = False
    drain: float = 1.0
    as_json: bool = False


def run(options: Options) -> int:
    """Serve until a signal ends it, on an event loop of its own, uvloop's where there is one.

    Returns:
        0 after SIGTERM or SIGINT, 1 when it could not listen or stop, 2 for wrong settings.
    """
    try:
        token = _token(options)
        config = _config(options.url)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(_serve(options, config, token))
    except ConfigError as error:
        _complain(str(error))
        return 2
    except (CannotListen, RedisUtilsError) as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:  # Windows, where the loop has no handlers of signals
        return 0


def _config(url: str | None) -> RedisConfig:
    """The settings; what is no setting is told in a line.

    Raises:
        ConfigError: some are wrong.
    """
    loaded = load(url)
    if loaded.config is None:
        raise ConfigError("\n  ".join(loaded.problems))
    for name, meant in loaded.sources.unknown:
        hint = f": did you mean {meant}?" if meant else ""
        _complain(f"{name} is no setting, and is ignored{hint}")
    return loaded.config


def _token(options: Options) -> Secret | None:
    """Raises ConfigError: it cannot be read, is too short, or is unwanted."""
    found, name = os.environ.get(TOKEN) or None, TOKEN
    if options.token_file is not None:
        name = f"--token-file {options.token_file}: the token"
        try:
            with options.token_file.open(encoding="utf-8") as file:
                found = file.read(LONGEST * 2).strip()
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigError(f"--token-file {options.token_file}: {why}") from None
    if found is None:
        return None
    if options.no_token:
        where = "--token-file" if options.token_file is not None else TOKEN
        raise ConfigError(f"--no-token, but {where} gives one: leave one of them out")
    return check_token(found, name)


async def _serve(options: Options, config: RedisConfig, token: Secret | None) -> int:
    places = addresses(options.host)
    local = all(place.is_loopback for place in places)
    if not (local or token or options.no_token):
        raise ConfigError(
            f"--host {options.host} can be reached from other machines, and there is no token. "
            f"Put one into a file and name it with --token-file, or into {TOKEN}. Where everybody "
            "in reach may read the figures, --no-token says so"
        )
    with contextlib.ExitStack() as listening:
        sockets = listen(places, options.port)
        for each in sockets:
            listening.enter_context(contextlib.closing(each))
        if not os.environ.get("REDIS_LOG"):
            configure_logging("warning")  # nobody watches it: what goes wrong has to be written
        async with create_redis_pool(config) as pool:
            app = monitor_app(pool, token=token)
            app.feed.sidecar = True
            stop = _on_signals(app, options.drain)
            known = bool(token or options.no_token)
            serving = Host(app, sockets, any_name=known, name=options.host)
            async with probing(pool), serving as host:
                app.feed.start()  # for the first to look to see what was before
                _announce(options, config, host.url, local=local, token=token is not None)
                await _until(stop, host)
                await asyncio.sleep(options.drain)
    return 0


async def _until(stop: asyncio.Event, host: Host) -> None:
    """Until ``stop`` is set, or the host ends by itself, which it does not."""
    waiting = asyncio.ensure_future(stop.wait())
    ending = asyncio.ensure_future(host.ended())
    try:
        await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            ending.result()
    finally:
        waiting.cancel()
        ending.cancel()


def _on_signals(app: MonitorApp, drain: float) -> asyncio.Event:
    """The event that the first SIGTERM or SIGINT sets. A second one ends the process at once, up
    to the very end."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def received(number: signal.Signals) -> None:
        if stop.is_set():
            _end_at_once(128 + number, f"a second signal, {number.name}: ended at once")
        app.stopping = True  # readyz tells those who send requests here
        stop.set()
        bound = drain + _BOUND
        loop.call_later(bound, _end_at_once, 1, f"not stopped after {bound:g} s: ended at once")
        _complain(f"stopping on {number.name}")

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, received, number)
    except NotImplementedError:
        pass  # Windows: Ctrl-C cancels, and what was entered is left
    return stop


def _end_at_once(code: int, why: str) -> None:
    _complain(why)
    os._exit(code)


def _announce(options: Options, config: RedisConfig, url: str, *, local: bool, token: bool) -> None:
    access = "token" if token else "loopback" if local and not options.no_token else "everybody"
    if options.as_json:
        told = json.dumps({"url": url, "endpoint": config.endpoint, "access": access})
    else:
        who = {
            "token": "to whoever has the token",
            "loopback": "to this machine only",
            "everybody": "to everybody who can reach it",
        }[access]
        told = f"redisutils serve: {url} shows {config.endpoint} {who}"
    _print(told, sys.stdout)


def _complain(why: str) -> None:
    _print(f"redisutils serve: {why}", sys.stderr)


def _print(told: str, stream: TextIO) -> None:
    """To somebody who may have gone: what has to be done is done all the same."""
    with contextlib.suppress(OSError, ValueError):
        print(told, file=stream, flush=True)
