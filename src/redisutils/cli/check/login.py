"""The handshake: who we are, whether the server believes it, and which RESP it speaks."""

from __future__ import annotations

from time import perf_counter

from redis.exceptions import RedisError, ResponseError

from redisutils import RedisPool
from redisutils.cli.check.asking import Permissions
from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say, Stop
from redisutils.cli.check.units import span
from redisutils.errors import (
    AuthenticationFailed,
    ConnectFailed,
    ConnectTimeout,
    PoolTimeout,
    RedisUtilsError,
)

__all__ = ["check_login", "judge_access"]


async def check_login(case: Case, say: Say) -> None:
    """The step. Opens the pool that all later steps use, as the program's own would be."""
    config = case.config.replace(
        pool_max_size=2,
        pool_min_idle=0,
        pool_timeout=None,
        max_retries=0,
        retry="never",
        command_timeout=case.timeout,
        connection_timeout=min(case.config.connection_timeout, 0.9 * case.timeout),
        health_check_interval=0,
        client_name="",
    )
    started = perf_counter()
    try:
        # Without CLIENT SETINFO, which may be refused. Kept to the end: to recycle it, others would
        # be sent.
        pool = RedisPool(config, library=None)
        case.pool = await case.closing.enter_async_context(pool)
        connection = await case.closing.enter_async_context(pool.get())
    except (RedisUtilsError, RedisError) as error:
        _refused(case, error, say)
        raise Stop from None
    took = perf_counter() - started
    case.client = case.pool.make_client(decode_responses=True)
    try:
        hello = await connection.execute("HELLO")
        case.hello = {_text(k): _text(v) for k, v in dict(hello).items()}
    except ResponseError:
        pass  # an old server
    asked = config.username or "default"
    case.permissions = Permissions(connection, asked, trying=case.trying)
    await case.permissions.find_out()
    protocol = 3 if case.hello.get("proto") == "3" else 2
    say.ok(
        f"user {case.user!r}, RESP{protocol}, connected in {span(took)}",
        user=case.user,
        protocol=protocol,
        seconds=took,
    )
    if protocol == 2:
        say.note(
            "the server speaks only RESP2",
            "Nothing is to be done; servers from Redis 6 on speak RESP3.",
        )
    judge_access(
        say,
        local=case.local,
        open_door=case.open_door,
        with_password=config.current_password() is not None,
        encrypted=config.tls_enabled,
    )


def judge_access(
    say: Say, *, local: bool, open_door: bool, with_password: bool, encrypted: bool
) -> None:
    """Who else gets in, and who can listen.

    Args:
        say: told.
        local: whether the server was reached without a network.
        open_door: whether it obeys those who say no password.
        with_password: whether we say one.
        encrypted: whether we speak TLS.
    """
    if open_door and not local:
        say.warning(
            "the server obeys anyone who reaches it: its default user has no password",
            "On the server: `ACL SETUSER default off` once you have users of your own, or "
            "`requirepass`; then set REDIS_PASSWORD or REDIS_PASSWORD_FILE here.",
        )
    elif open_door and with_password:
        say.note(
            "a password is set here, and the server wants none of its default user",
            "Set `requirepass` on the server, or it protects nothing.",
        )
    if with_password and not encrypted and not local:
        say.warning(
            "the password, and all data, cross the network in plain",
            "Set REDIS_TLS_ENABLED=true and use the server's TLS port, unless something below "
            "encrypts (WireGuard, IPsec, a service mesh).",
        )


def _refused(case: Case, error: Exception, say: Say) -> None:
    config = case.config
    user = case.asked_user
    told = str(error)
    if user == "***":
        told = told.replace(config.username or "", user)
    lowered = told.lower()
    if isinstance(error, AuthenticationFailed) and "none is set" in lowered:
        say.error(
            "the server wants a password and none is set",
            "Set REDIS_PASSWORD or REDIS_PASSWORD_FILE, and REDIS_USERNAME for an ACL user.",
            reason="NOAUTH",
        )
    elif isinstance(error, AuthenticationFailed):
        say.error(
            f"the server refused user {user!r}: its password is another one, or there is no such "
            "user, or it is disabled (servers do not say which)",
            f"Try it by hand: `{case.by_hand} --user {user} --askpass PING`. An "
            f"administrator sees the user with `ACL GETUSER {user}`: its flags must have `on`. "
            "Mind spaces or a newline at the end of the password.",
            reason="WRONGPASS",
            user=user,
        )
    elif isinstance(error, (ConnectTimeout, PoolTimeout)):
        say.error(
            "the server accepts connections, and does not answer the handshake",
            "It may be frozen, swapping, or busy with a long command. On its machine: `redis-cli "
            "--latency`, `redis-cli SLOWLOG GET 10`, `top`.",
            reason="timeout",
        )
    elif "max number of clients" in lowered:
        say.error(
            "the server has as many clients as it allows (maxclients)",
            "See who they are: `redis-cli CLIENT LIST`. Raise it with `CONFIG SET maxclients N` "
            "(and its `ulimit -n`), or lower REDIS_POOL_MAX_SIZE of those who connect.",
            reason="maxclients",
        )
    elif "has no database" in lowered:
        say.error(
            f"the server has no database {config.database}",
            "Set REDIS_DATABASE to a lower number (0 always exists; in a cluster it is the only "
            "one), or raise `databases` in the server's configuration and restart it.",
            reason="database",
        )
    elif "protected mode" in lowered:
        say.error(
            "the server is in protected mode: without a password it talks to its own machine only",
            "Set a password there (`requirepass`, or ACL users) and REDIS_PASSWORD here; "
            "`protected-mode no` would leave it open to everyone.",
            reason="DENIED",
        )
    elif isinstance(error, ConnectFailed) and "may not do what" in lowered:
        say.error(
            told,
            f"An administrator grants it: `ACL SETUSER {user} +hello +auth +select +client|setname "
            "+client|setinfo +ping`.",
            reason="NOPERM",
        )
    else:
        say.error(
            told,
            "Read the server's log at this moment, and try `redis-cli` from this machine.",
            reason=type(error).__name__,
        )


def _text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
