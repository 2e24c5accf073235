"""From an open socket to a connection that may carry commands, in one round trip.

``HELLO 3 AUTH … SETNAME …``, ``SELECT`` and ``CLIENT SETINFO`` leave in one write
(https://valkey.io/commands/hello/). A server or proxy without HELLO answers it with an
error; the same is then said in RESP2's words, in a second round trip.
"""

from __future__ import annotations

from sys import intern
from typing import Any, Final, NamedTuple

from redis.exceptions import AuthenticationError, DataError, NoPermissionError

from redisutils.connection.alarm import FOREVER
from redisutils.connection.options import ConnectOptions
from redisutils.connection.owner import Owner
from redisutils.connection.packing import pack_many
from redisutils.connection.protocol import Connection
from redisutils.connection.reply import new_batch
from redisutils.connection.words import cut
from redisutils.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectionLost,
    ProtocolError,
    RedisUtilsError,
)
from redisutils.secret import Secret, hidden

__all__ = ["Greeting", "refusal", "shake_hands"]

LONGEST_REFUSAL: Final = 300
"""Characters of a refusal that are told: what is no server may answer with anything."""


class _Refused(NamedTuple):
    """What the server has refused."""

    error: Exception
    """May be shown: it repeats nothing of our commands, and has no password in it."""
    words: Secret
    """What the server said of its own, in lower case: to be understood. A word of it that is the
    password too is still there."""


class Greeting(Owner[Connection]):
    """Owns a connection until it has shaken hands. Keeps what a server says that wants no more
    clients, before it has been asked anything."""

    __slots__ = ("said",)

    def __init__(self) -> None:
        self.said: _Refused | None = None

    def on_unsolicited(self, connection: Connection, value: Any) -> None:
        if isinstance(value, Exception):
            self.said = _heard(value, ())
        super().on_unsolicited(connection, value)


async def shake_hands(connection: Connection, options: ConnectOptions) -> None:
    """Authenticate, name and set up ``connection``.

    Raises:
        AuthenticationFailed: the server wants other credentials, or some at all.
        ConnectFailed: it refused the database or the protocol; ``fatal`` says whether
            trying again can help.
        ConnectionLost: it hung up.
    """
    credentials = await _credentials(options)
    if options.protocol == 3:
        commands = _resp3(options, credentials)
        answers = await _ask(connection, options, commands, credentials)
        hello = answers[0]
        if isinstance(hello, dict):
            connection.protocol_version = 3
            # The same words on every connection: one copy of each is enough, and none of the list
            # of modules.
            connection.server = {
                intern(_text(k)): _value(v) for k, v in hello.items() if not isinstance(v, list)
            }
            _check(options, commands[1:], answers[1:], credentials)
            options.dialect.heard(3)
            return
        if not isinstance(hello, _Refused):
            hello = _heard(ProtocolError("it answers HELLO as no Redis server does"), ())
        if not _means_no_hello(hello, credentials):
            raise refusal(options, hello, credentials)
    commands = _resp2(options, credentials)
    answers = await _ask(connection, options, commands, credentials)
    connection.protocol_version = 2
    _check(options, commands, answers, credentials)
    if options.protocol == 3:
        options.dialect.heard(2)


async def _credentials(options: ConnectOptions) -> tuple[str, ...]:
    try:
        given = tuple(await options.credentials())
        return (*given[:-1], *map(hidden, given[-1:]))
    except RedisUtilsError:
        raise
    except Exception as error:
        failed = ConnectFailed(
            f"cannot connect to {options.peer}: its credential provider failed with "
            f"{type(error).__name__}: {error}"
        )
        failed.own = True
        raise failed from error


async def _ask(
    connection: Connection,
    options: ConnectOptions,
    commands: list[tuple[Any, ...]],
    credentials: tuple[str, ...],
) -> list[Any]:
    # Dial bounds the connect as a whole.
    batch = new_batch(connection.loop, _packed(options, commands), len(commands), False, FOREVER)
    connection.send(batch)
    try:
        answers: list[Any] = await batch.future
    except ConnectionLost:
        # A server that has too many clients, or wants none from here, says so and hangs up.
        answers = [_heard(value, credentials) for value in batch.values]
        said = next((value for value in answers if isinstance(value, _Refused)), None)
        if said is None:
            raise
        raise refusal(options, said, ()) from None
    return [_heard(value, credentials) for value in answers]


def _packed(options: ConnectOptions, commands: list[tuple[Any, ...]]) -> bytes:
    try:
        return pack_many(commands)
    except (DataError, UnicodeEncodeError) as error:
        wrong = error.reason if isinstance(error, UnicodeEncodeError) else str(error)
    # Outside: that error holds the password that does not encode, or its frames what does.
    raise ConnectFailed(
        f"cannot connect to {options.peer}: user name, password or client name cannot be sent: "
        f"{wrong}",
        fatal=True,
    )


def _heard(answer: Any, credentials: tuple[str, ...]) -> Any:
    """An answer without what it may repeat of our commands: a server that does not know one of
    them shows its arguments, and something that is no server may send back all that it gets."""
    if isinstance(answer, list):
        answer = ProtocolError("it answers with a list, as no Redis server does")
    if not isinstance(answer, Exception):
        return hidden(answer)
    words = Secret(str(answer).partition(", with args beginning with")[0])
    shown = str(words)
    for secret in credentials[-1:]:
        shown = shown.replace(_text(secret), "***") if secret else shown
    shown = cut(shown)
    answer.args = (shown,)  # in place, for whoever else holds it
    return _Refused(answer, Secret(words.lower()))


def _resp3(options: ConnectOptions, credentials: tuple[str, ...]) -> list[tuple[Any, ...]]:
    hello: list[Any] = ["HELLO", 3]
    if credentials:
        user, password = ("default", *credentials)[-2:]
        hello += ["AUTH", user, password]
    if options.client_name:
        hello += ["SETNAME", options.client_name]
    return [tuple(hello), *_select(options), *_readonly(options), *_set_info(options)]


def _resp2(options: ConnectOptions, credentials: tuple[str, ...]) -> list[tuple[Any, ...]]:
    commands: list[tuple[Any, ...]] = []
    if credentials:
        commands.append(("AUTH", *credentials))
    if options.client_name:
        commands.append(("CLIENT", "SETNAME", options.client_name))
    # Without credentials, and perhaps with nothing else to say: is one wanted?
    asked = [] if credentials else [("PING",)]
    return [*commands, *_select(options), *asked, *_readonly(options), *_set_info(options)]


def _select(options: ConnectOptions) -> list[tuple[Any, ...]]:
    return [("SELECT", options.database)] if options.database else []


def _readonly(options: ConnectOptions) -> list[tuple[Any, ...]]:
    return [("READONLY",)] if options.readonly else []


def _set_info(options: ConnectOptions) -> list[tuple[Any, ...]]:
    if options.library is None:
        return []
    name, version = options.library
    wanted = (("LIB-NAME", name), ("LIB-VER", version))
    return [("CLIENT", "SETINFO", what, value) for what, value in wanted if value]


def _check(
    options: ConnectOptions,
    commands: list[tuple[Any, ...]],
    answers: list[Any],
    credentials: tuple[str, ...],
) -> None:
    """Raise for the first refusal that matters."""
    for command, answer in zip(commands, answers, strict=True):
        if isinstance(answer, _Refused) and not _is_courtesy(command, answer):
            raise refusal(options, answer, credentials)


def _is_courtesy(command: tuple[Any, ...], refused: _Refused) -> bool:
    """Whether a connection is as good without it. Old servers do not know CLIENT SETINFO, some
    proxies no CLIENT at all, some users may not use it; and who loads its data refuses PING."""
    if isinstance(refused.error, AuthenticationError):
        return False
    if command[:2] == ("CLIENT", "SETNAME"):
        return isinstance(refused.error, NoPermissionError) or "unknown" in refused.words
    if command[0] == "READONLY":  # one that is no cluster is told of by who asks for the map
        return "cluster support disabled" in refused.words
    return command[0] in {"CLIENT", "PING"}


def _means_no_hello(refused: _Refused, credentials: tuple[str, ...]) -> bool:
    words = refused.words
    if "authentication required" in words:
        # HELLO had the credentials with it. Some servers do not tell strangers that they do
        # not know a command.
        return bool(credentials)
    return "unknown command" in words or "noproto" in words or "unsupported protocol" in words


def refusal(
    options: ConnectOptions, refused: _Refused, credentials: tuple[str, ...]
) -> ConnectFailed:
    """Our error for the server's, in the words of the one who has to mend it."""
    error, words = refused.error, refused.words
    text = str(error)
    if len(text) > LONGEST_REFUSAL:
        text = f"{text[:LONGEST_REFUSAL]}…"
    where = f"{options.peer} refused the connection"
    password = f"{options.settings}_PASSWORD"
    if options.settings == "REDIS":  # of no other there is a file
        password += " or REDIS_PASSWORD_FILE"
    wants_one = ("noauth", "authentication required", "hello must")
    if not credentials and any(phrase in words for phrase in wants_one):
        return AuthenticationFailed(
            f"{options.peer} wants a password and none is set: set {password} "
            f"(and {options.settings}_USERNAME for an ACL user)"
        )
    if isinstance(error, NoPermissionError):
        return ConnectFailed(
            f"{options.peer}: user {_user(credentials)!r} may not do what setting up a connection "
            f"takes: {text}. Grant it, or change "
            + ("REDIS_READ_FROM, " if options.readonly else "")
            + "REDIS_DATABASE or REDIS_CLIENT_NAME",
            fatal=True,
        )
    if isinstance(error, AuthenticationError) or (
        "wrongpass" in words or "invalid username-password" in words or "no password" in words
    ):
        return AuthenticationFailed(
            f"{options.peer} refused the user name or password of user "
            f"{_user(credentials)!r}: {text.rstrip('.')}. "
            f"Check {options.settings}_USERNAME and {password}"
        )
    if "select is not allowed" in words:
        return ConnectFailed(
            f"{options.peer} is a node of a cluster, which has database 0 alone ({text}): set "
            f"REDIS_DATABASE=0 (db=0) instead of {options.database}, or use Valkey 9 with its "
            "setting `cluster-databases`",
            fatal=True,
        )
    if "db index" in words:
        return ConnectFailed(
            f"{options.peer} has no database {options.database} ({text}): "
            "check REDIS_DATABASE against the server's `databases` setting (in a cluster "
            "`cluster-databases`)",
            fatal=True,
        )
    return ConnectFailed(f"{where}: {text}", fatal=isinstance(error, ProtocolError))


def _user(credentials: tuple[str, ...]) -> str:
    return credentials[0] if len(credentials) == 2 else "default"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _value(value: Any) -> Any:
    return intern(_text(value)) if isinstance(value, bytes | str) else value
