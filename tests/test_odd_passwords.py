"""Passwords of unusual types, and with unusual words in them: sent as they are, shown nowhere."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from enum import Enum
from functools import partial
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from redisutils import (
    AuthenticationFailed,
    ConfigError,
    ConnectFailed,
    Redis,
    RedisConfig,
    create_redis_pool,
)
from redisutils.secret import Secret, SecretBytes, hidden, hide
from redisutils.testing import EmbeddedServer

from .canary import Search
from .peers import Peer

SetPassword = Callable[[str], None]

PASSWORD = "op3n-sesame"
USER = "odd"


class Masked(str):
    """As other libraries keep secrets."""

    __slots__ = ()

    def __str__(self) -> str:
        return "****"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return "****"


class MaskedBytes(bytes):
    __slots__ = ()

    def __bytes__(self) -> bytes:
        return b"****"

    def __str__(self) -> str:
        return "****"

    __repr__ = __str__


class Chosen(str, Enum):  # noqa: UP042  # StrEnum's text is its value: here it is its name
    PASSWORD = PASSWORD
    USER = USER


ODD: list[Any] = [Masked(PASSWORD), MaskedBytes(PASSWORD.encode()), Chosen.PASSWORD]


# --- what is hidden ---


@pytest.mark.parametrize("odd", [*ODD, PASSWORD, PASSWORD.encode(), Secret(PASSWORD)])
def test_the_characters_are_hidden_as_they_are(odd: Any) -> None:
    secret: Any = hidden(odd)
    plain: Any = PASSWORD.encode() if isinstance(odd, bytes) else PASSWORD
    assert type(secret) is (SecretBytes if isinstance(odd, bytes) else Secret)
    assert secret == plain
    assert hash(secret) == hash(plain)
    assert hidden(secret) is secret
    kind: Any = type(secret)
    assert kind(secret) is secret
    assert secret + plain[:1] == plain + plain[:1]
    assert repr(secret) in ("'***'", "b'***'")
    assert PASSWORD not in repr(hide({"password": odd, "token": odd}))


def test_as_text_it_is_itself() -> None:
    secret = Secret(PASSWORD)
    assert str(secret) == f"{secret}" == "%s" % secret == "".join([secret]) == PASSWORD  # noqa: UP031  # each way
    assert f"{secret:>20}" == f"{PASSWORD:>20}"
    assert secret.encode() == PASSWORD.encode()
    assert f"{secret!r}" == "'***'"
    assert {PASSWORD: 1}[secret] == 1


def test_as_text_bytes_are_what_they_show() -> None:
    """The text of bytes is for display alone."""
    secret = SecretBytes(PASSWORD.encode())
    assert str(secret) == f"{secret}" == "b'***'"
    assert secret.decode() == PASSWORD


def pickled(protocol: int, secret: Any) -> Any:
    return pickle.loads(pickle.dumps(secret, protocol))


@pytest.mark.parametrize("secret", [Secret(PASSWORD), SecretBytes(PASSWORD.encode())])
def test_copies_are_as_secret(secret: Any) -> None:
    """A pickle holds the text, which it is made to carry; what comes out of it is hidden."""
    ways: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy]
    ways += [partial(pickled, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for way in ways:
        again = way(secret)
        assert again == secret
        assert type(again) is type(secret)


@pytest.mark.parametrize("make", [Secret, SecretBytes])
def test_what_is_neither_text_nor_bytes_is_refused(make: Any) -> None:
    for wrong in (7, None, [PASSWORD], object()):
        with pytest.raises(TypeError) as failure:
            make(wrong)
        assert PASSWORD not in str(failure.value)
        assert hidden(wrong) is wrong


# --- what is sent ---


@pytest.fixture
def set_password(clean_server: EmbeddedServer, admin: redis.Redis) -> Iterator[SetPassword]:
    """Gives the user a password."""

    def choose(password: str) -> None:
        rights: dict[str, Any] = {"keys": ["*"], "categories": ["+@all"], "reset": True}
        admin.acl_setuser(USER, enabled=True, passwords=[f"+{password}"], **rights)

    yield choose
    admin.acl_deluser(USER)


async def test_odd_types_are_sent_as_they_are(
    clean_server: EmbeddedServer, set_password: SetPassword
) -> None:
    set_password(PASSWORD)
    place: dict[str, Any] = {"host": "127.0.0.1", "port": clean_server.port}
    url = f"redis://{USER}:{PASSWORD}@127.0.0.1:{clean_server.port}"
    for password in ODD:
        given = {**place, "username": Chosen.USER, "password": password}
        async with Redis(**given) as client:
            assert await client.acl_whoami() in (USER, USER.encode())
        async with Redis(connection_pool=redis.asyncio.ConnectionPool(**given)) as client:
            assert await client.ping()
            await client.connection_pool.aclose()
        if isinstance(password, str):
            for secret in (password, SecretStr(password)):
                async with create_redis_pool(**{**given, "password": secret}) as pool:
                    assert await pool.client.ping()
    for odd_url in (Masked(url), Enum("Url", {"IT": url}, type=str).IT):  # type: ignore[attr-defined]  # made at run time
        async with Redis.from_url(odd_url) as client:
            assert await client.ping()
        async with create_redis_pool(url=odd_url) as pool:
            assert await pool.client.ping()


def test_the_settings_give_the_characters() -> None:
    for password in (Masked(PASSWORD), Chosen.PASSWORD):
        for secret in (password, SecretStr(password)):
            found = RedisConfig(password=secret).current_password()
            assert type(found) is Secret
            assert found == PASSWORD


# --- what the server says, with words of the password in it ---


def strange(command: list[bytes]) -> bytes:
    """An old server: it knows neither HELLO nor CLIENT."""
    if command[0] in (b"HELLO", b"CLIENT"):
        return b"-ERR unknown command '%s'\r\n" % command[0]
    return b"+PONG\r\n"


@pytest.mark.parametrize("word", ["unknown", "command", "nknown comman", "HELLO", "e"])
async def test_an_old_server_is_understood(word: str) -> None:
    async with (
        Peer(strange, polite=False) as peer,
        Redis(port=peer.port, password=word, client_name="me") as client,
    ):
        assert await client.ping()
        assert [b"AUTH", word.encode()] in peer.heard


async def test_a_refusal_is_understood(
    clean_server: EmbeddedServer,
    set_password: SetPassword,
    caplog: pytest.LogCaptureFixture,
) -> None:
    search = Search(caplog)
    place: dict[str, Any] = {"port": clean_server.port, "username": USER}
    for word, protocol in (("index", 2), ("index", 3), ("DB", 3), ("range", 3)):
        set_password(word)
        async with Redis(**place, password=word, db=9999, protocol=protocol) as client:
            with pytest.raises(ConnectFailed, match="has no database 9999") as failure:
                await client.ping()
            assert failure.value.fatal
            # That the word is not in the server's: it stands in ours as well.
            server_says = str(failure.value).partition("(")[2].partition(")")[0]
            assert "***" in server_says
            assert word not in server_says
            search.look_at(word, failure.value)
    assert not [text for _, text in search.texts if "DB index is out of range" in text]
    for word in ("WRONGPASS", "invalid username-password"):
        async with Redis(**place, password=word) as client:
            with pytest.raises(AuthenticationFailed, match=USER):
                await client.ping()


async def test_a_password_that_is_a_phrase_of_a_refusal_names_no_other_fault() -> None:
    """What a server repeats of our own words is not what it means."""
    word = "no password"

    def answer(command: list[bytes]) -> bytes:
        shown = b", ".join(command)
        return b"-ERR unknown command '%s', with args beginning with: %s\r\n" % (command[0], shown)

    async with (
        Peer(answer, polite=False) as peer,
        Redis(port=peer.port, password=word, retry_mode="never") as client,
    ):
        with pytest.raises(ConnectFailed) as failure:
            await client.ping()
        assert not isinstance(failure.value, AuthenticationFailed | ConfigError)
        assert word not in str(failure.value)
