"""Who may look at a monitor: the token, the sessions of browsers, and what they hold behind."""

import re
from collections.abc import AsyncIterator

import pytest

from redisutils import ConfigError, RedisPool, create_redis_pool

pytest.importorskip("starlette", reason='needs the extra "monitor"')
pytest.importorskip("uvicorn", reason='needs the extra "monitor"')

from starlette.applications import Starlette
from starlette.routing import Mount

from redisutils.monitor.access import SESSION_SECONDS, Access, check_token
from redisutils.monitor.app import monitor_app
from redisutils.secret import Secret
from tests.monitored import Browse, browsing, one_loop

TOKEN = "open-sesame-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def idle() -> AsyncIterator[RedisPool]:
    """A pool of a server that there is not: none is asked."""
    async with create_redis_pool(port=1, max_retries=0) as pool:
        yield pool


@pytest.fixture
async def browse() -> AsyncIterator[Browse]:
    async with browsing() as browse:
        yield browse


SHIELDED = ["/", "/api/frame", "/events", "/healthz", "/metrics"]


@pytest.mark.parametrize("path", SHIELDED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \udcff".encode("latin-1", "surrogateescape").decode("latin-1")},
        {"Cookie": f"redisutils-00000000={TOKEN}"},
    ],
)
@one_loop
async def test_without_the_token_nothing_is_told(
    idle: RedisPool, browse: Browse, path: str, headers: dict[str, str]
) -> None:
    app = monitor_app(idle, token=TOKEN)
    encoded = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = await browse(app).get(path, headers=encoded)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="redisutils"')
    assert TOKEN not in answer.text
    assert "127.0.0.1" not in answer.text
    assert not app.feed.running
    if path != "/":
        assert "token" in answer.json()["error"]


@one_loop
async def test_with_the_token_everything_is(idle: RedisPool, browse: Browse) -> None:
    app = monitor_app(idle, token=TOKEN)
    client = browse(app)
    for header in (BEARER, {"Authorization": f"bearer  {TOKEN}"}):
        assert (await client.get("/", headers=header)).status_code == 200
    assert "does not answer" in (await client.get("/readyz", headers=BEARER)).json()["reasons"][0]


@one_loop
async def test_probes_need_no_token_and_are_told_no_reasons(
    idle: RedisPool, browse: Browse
) -> None:
    client = browse(monitor_app(idle, token=TOKEN))
    assert (await client.get("/livez")).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"ready": False})


@one_loop
async def test_a_browser_types_the_token_once(idle: RedisPool, browse: Browse) -> None:
    app = monitor_app(idle, token=TOKEN)
    client = browse(app)
    form = await client.get("/")
    assert form.status_code == 401
    assert '<form method="post" action="login">' in form.text
    for name in re.findall(r'(?:src|href)="([^"]+)"', form.text):
        assert (await client.get(name)).status_code == 200, "what the form needs, it gets"
    wrong = await client.post("/login", data={"token": "wrong"})
    assert wrong.status_code == 401
    assert "That is not the token." in wrong.text
    assert 'role="alert" hidden' in form.text
    assert 'role="alert" hidden' not in wrong.text
    assert not client.cookies
    right = await client.post("/login", data={"token": f" {TOKEN} "})
    assert right.status_code == 303
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert (await client.get("/")).status_code == 200
    assert (await client.get("/login")).status_code == 303


@one_loop
async def test_over_https_the_cookie_stays_on_https(idle: RedisPool, browse: Browse) -> None:
    client = browse(monitor_app(idle, token=TOKEN), base="https://monitor.example")
    assert "Secure" in (await client.post("/login", data={"token": TOKEN})).headers["set-cookie"]


@one_loop
async def test_behind_a_proxy_with_tls_the_cookie_stays_on_https(
    idle: RedisPool, browse: Browse
) -> None:
    for base, told, secure in [
        ("http://monitor.example", "https", True),
        ("http://monitor.example", "HTTPS, http", True),
        ("http://monitor.example", "http", False),
        ("https://monitor.example", "http", True),
    ]:
        client = browse(monitor_app(idle, token=TOKEN), base=base)
        headers = {"X-Forwarded-Proto": told}
        answer = await client.post("/login", data={"token": TOKEN}, headers=headers)
        assert ("Secure" in answer.headers["set-cookie"]) is secure, (base, told)


@one_loop
async def test_a_session_is_for_where_the_browser_finds_the_form(
    idle: RedisPool, browse: Browse
) -> None:
    """A proxy may serve it below a path that the application does not know of."""
    answer = await browse(monitor_app(idle, token=TOKEN)).post("/login", data={"token": TOKEN})
    assert "path" not in answer.headers["set-cookie"].lower()  # the browser takes the form's


@one_loop
async def test_sessions_of_several_monitors_do_not_get_into_each_others_way(
    idle: RedisPool, browse: Browse
) -> None:
    """A browser sends what one has set to all others on the same host, whatever their ports, and
    below the same path."""
    tokens = {"/below": TOKEN[::-1], "": TOKEN}
    client = browse(
        Starlette(routes=[Mount(path, monitor_app(idle, token=tokens[path])) for path in tokens])
    )
    for _ in range(2):
        for path, token in tokens.items():
            await client.post(f"{path}/login", data={"token": token})
    for path in tokens:
        assert (await client.get(f"{path}/")).status_code == 200, path


@one_loop
async def test_a_session_holds_whatever_a_proxy_is_told(idle: RedisPool, browse: Browse) -> None:
    """The password of a proxy in front stands in the header that is ours elsewhere."""
    client = browse(monitor_app(idle, token=TOKEN), auth=("somebody", "and their password"))
    assert (await client.get("/")).status_code == 401
    await client.post("/login", data={"token": TOKEN})
    assert (await client.get("/")).status_code == 200


def test_a_session_ends_after_twelve_hours_whatever_is_asked_for_in_it() -> None:
    now = 1_700_000_000.0
    access = Access(Secret(TOKEN), clock=lambda: now)
    session = access.begin()
    for _ in range(12):
        assert access.allows(None, session)
        now += SESSION_SECONDS / 12
    assert not access.allows(None, session)


def test_every_worker_knows_the_sessions_of_its_token() -> None:
    session = Access(Secret(TOKEN)).begin()
    assert Access(Secret(TOKEN)).allows(None, session)
    assert not Access(Secret(TOKEN + "x")).allows(None, session)
    assert session != Access(Secret(TOKEN)).begin()
    end, nonce, signature = session.split(".")
    for forged in (
        f"{int(end) + 1}.{nonce}.{signature}",
        f"{end}.x.{signature}",
        f"{end}.{nonce}.{signature[:-1]}",
        f"{end}.{nonce}.",
        f"{'9' * 5000}.{nonce}.{signature}",
        "",
        ".",
        "..",
        "\udcff.\udcff.\udcff",
    ):
        assert not Access(Secret(TOKEN)).allows(None, forged), forged


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("", "token is empty: make one with"),
        ("short", "token has 5 characters, must have 16 to 512"),
        ("x" * 513, "token has 513 characters"),
        ("sixteen or more, with spaces", "has a space"),
        ("sechzehn-Zeichen-müssen-es-sein", "not ASCII"),
    ],
)
@one_loop
async def test_a_poor_token_is_refused_and_not_repeated(
    idle: RedisPool, token: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        monitor_app(idle, token=token)
    assert told in str(caught.value)
    assert not token or token not in str(caught.value)
    assert TOKEN not in repr(check_token(TOKEN, "token"))
