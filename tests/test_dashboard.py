"""The dashboard in a browser: it moves, turns red in time, comes back by itself, can be read by
everybody, and never takes what a server says for more than text."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any, Final

import pytest

from redisutils.testing.plugin import chosen_servers

pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install playwright"
)
pytest.importorskip("uvicorn", reason='the extra "monitor" is not installed')

from playwright.sync_api import Browser, Page, expect, sync_playwright

import redisutils.monitor
from tests.dashboard import TOKEN, Stage, Witness, made_up, node, opened, play, replica

CHROMIUM: Final = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH")

SWITCHES: Final = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGE: Final = Path(redisutils.monitor.__path__[0]) / "page"
BYTES: Final = 150_000
"""Of the whole page. 300 kB are promised."""

RED: Final = "rgb(185, 28, 28)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with Stage(chosen_servers(request.config)[0]) as stage:
        yield stage


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[Page]:
    """Shows the real server."""
    with opened(browser, stage.url) as witness:
        yield witness.page
        witness.check()


@pytest.fixture(scope="module")
def player(browser: Browser, stage: Stage) -> Iterator[Witness]:
    with opened(browser, stage.url) as witness:
        yield witness


@pytest.fixture
def screen(player: Witness) -> Iterator[Page]:
    """Shows what is played."""
    player.page.evaluate("localStorage.clear()")
    yield player.page
    player.check()


def health(page: Page, status: str | re.Pattern[str], patience: float = 6.0) -> None:
    """Wait for it."""
    expect(page.locator("body")).to_have_attribute("data-health", status, timeout=patience * 1000)


SERVES = re.compile("^(healthy|degraded)$")
"""A busy machine keeps the event loop waiting, which is told."""


def minutes(count: int = 60, **last: Any) -> list[Any]:
    """Frames until now, the last with a change."""
    now = time()
    past = [made_up(now - ago) for ago in range(count - 1, 0, -1)]
    return [*past, made_up(now, **last)]


def turned(page: Page, status: str) -> float:
    """When it last became that (``time.time``)."""
    turns = [at for name, at in page.evaluate("turns") if name == status]
    assert turns, f"it has never been {status}"
    return float(turns[-1])


# -- the real application, pool and server -------------------------------------------------------


def test_values_move_while_a_load_runs(page: Page, stage: Stage) -> None:
    health(page, SERVES)
    commands = page.locator("#throughput dd").first
    with stage.load():
        expect(page.locator("#commands tbody")).to_contain_text("SET")
        expect(page.locator("#shares .verdict")).to_contain_text("p99 is")
        expect(commands).to_have_text(re.compile("[1-9]"))
        before = commands.text_content()
        expect(commands).not_to_have_text(str(before))
        expect(page.locator("#slow tbody")).to_contain_text("ms")
        page.get_by_role("button", name="Throughput as a table").click()
        newest = page.locator("#throughput tbody td").first
        expect(newest).not_to_have_text(str(newest.text_content()))
    expect(page.locator("#server-line")).to_contain_text(re.compile("Valkey|Redis"))


def test_a_killed_server_turns_it_red_and_a_new_one_green_by_itself(
    page: Page, stage: Stage, record_property: Any
) -> None:
    health(page, SERVES)
    with stage.load():
        killed = time()
        stage.call(stage.server.kill())
        health(page, "unhealthy")
        red = turned(page, "unhealthy") - killed
        record_property("seconds until red", red)
        assert red < 6.0  # 2 are promised; a machine of the tests may have other things to do
        expect(page.locator("#head")).to_have_css("background-color", RED)
        expect(page).to_have_title(re.compile("^Unhealthy"))
        expect(page.locator("link[rel=icon]")).to_have_attribute("href", "icon-unhealthy.svg")
        expect(page.locator("#reasons li").first).to_be_visible()
        expect(page.locator("#news")).to_contain_text("Unhealthy")
        stage.call(stage.server.start())
        health(page, SERVES, 15.0)
    expect(page).to_have_title(re.compile("^(Healthy|Degraded)"))


def test_it_comes_back_by_itself_when_the_application_restarts(
    browser: Browser, stage: Stage
) -> None:
    with opened(browser, stage.url) as witness:
        page = witness.page
        expect(page.locator("#link-words")).to_have_text("live")
        stage.call(stage.stop_app())
        expect(page.locator("#banner")).to_contain_text("tried again by itself")
        health(page, "stale")
        stage.call(stage.start_app())
        expect(page.locator("#link-words")).to_have_text("live", timeout=12000)
        health(page, SERVES)
        expect(page.locator("#banner")).to_be_hidden()
        witness.check(server_was_away=True)


def test_it_asks_for_the_token_and_says_when_it_must_be_given_again(
    browser: Browser, stage: Stage
) -> None:
    stage.call(stage.stop_app())
    stage.call(stage.start_app(TOKEN))
    try:
        with opened(browser, stage.url) as witness:
            page = witness.page
            page.get_by_label("Token").fill("not the token of it")
            page.get_by_role("button").click()
            expect(page.get_by_role("alert")).to_have_text("That is not the token.")
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button").click()
            health(page, SERVES)
            stage.call(stage.stop_app())
            stage.call(stage.start_app(TOKEN[::-1]))  # sessions of the other end with it
            health(page, "signed out", 12.0)
            expect(page.locator("h1")).to_have_text("Signed out")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_label("Token")).to_be_visible()
            witness.check(server_was_away=True)
    finally:
        stage.call(stage.stop_app())
        stage.call(stage.start_app())


# -- made-up frames, for what real servers seldom do ---------------------------------------------


def test_the_keyboard_reaches_every_value(screen: Page) -> None:
    play(screen, minutes())
    throughput = screen.get_by_role("slider", name="Throughput")
    health(screen, "healthy")
    moment = screen.locator("#moment")
    expect(moment).to_be_hidden()
    screen.keyboard.press("ArrowLeft")
    expect(moment).to_contain_text("1 s before")
    screen.keyboard.press("Shift+ArrowLeft")
    expect(moment).to_contain_text("11 s before")
    expect(throughput).to_have_attribute("aria-valuetext", re.compile(r"\d:\d\d: commands 40.0"))
    assert screen.locator(".cursor:visible").count() == screen.get_by_role("slider").count() >= 7
    screen.keyboard.press("Escape")
    expect(moment).to_be_hidden()
    screen.keyboard.press("5")
    expect(screen.get_by_role("button", name="5 min")).to_have_attribute("aria-pressed", "true")
    screen.keyboard.press("Space")
    expect(moment).to_contain_text("Paused at")
    screen.keyboard.press("Space")
    expect(moment).to_be_hidden()
    screen.get_by_role("button", name="Latency as a table").focus()
    screen.keyboard.press("Enter")
    expect(screen.locator("#latency tbody tr").first).to_contain_text("µs")
    screen.get_by_role("button", name="Mean", exact=True).click()
    expect(screen.get_by_role("columnheader", name="Mean")).to_have_attribute(
        "aria-sort", "descending"
    )


def test_pointing_at_a_moment_shows_it_everywhere(screen: Page) -> None:
    frames = minutes()
    frames[30] = made_up(frames[30]["at"], in_flight=777)
    play(screen, frames)
    health(screen, "healthy")
    canvas = screen.get_by_role("slider", name="Throughput")
    screen.keyboard.press("Space")
    for _ in range(29):
        screen.keyboard.press("ArrowLeft")
    expect(screen.locator("#pool .legend")).to_contain_text("777")
    screen.keyboard.press("Escape")
    expect(screen.locator("#pool .legend")).not_to_contain_text("777")
    box = canvas.bounding_box()
    assert box is not None
    canvas.hover(position={"x": box["width"] * 0.7, "y": 40})
    expect(screen.locator("#moment")).to_contain_text("before the pause")
    screen.mouse.move(0, 0)
    expect(screen.locator("#moment")).to_contain_text("Paused at")
    screen.locator("#now").click()
    expect(screen.locator("#moment")).to_be_hidden()


def test_everything_has_a_name(screen: Page) -> None:
    play(screen, minutes())
    health(screen, "healthy")
    unnamed = screen.evaluate("""
        () => [...document.querySelectorAll(
            "button, section, ul, table, .scroll:has(.values), [role=slider], [role=img]"
        )].filter((node) =>
            !node.ariaLabel && !node.querySelector("caption") && !node.innerText?.trim()
        ).map((node) => node.outerHTML)
    """)
    assert unnamed == []
    assert screen.locator("h1").count() == 1
    expect(screen.get_by_role("list", name="What is wrong")).to_have_count(0)
    for frames in (minutes(), minutes(errors=[], retries=[])):
        play(screen, frames)
        health(screen, "healthy")
        expect(screen.locator("tbody tr").first).to_be_visible()
        expect(screen.locator("tbody th:not([scope=row])")).to_have_count(0)


def test_all_text_can_be_read_in_light_and_dark(screen: Page) -> None:
    for status in ("healthy", "degraded", "unhealthy"):
        report = {"status": status, "reasons": ["It is not well."], "round_trip": None}
        play(screen, minutes(health=report))
        health(screen, status)
        for scheme, ground in (("dark", "rgb(12, 15, 19)"), ("light", "rgb(244, 245, 247)")):
            screen.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # both are
            expect(screen.locator("html")).to_have_css("background-color", ground)
            assert screen.evaluate(POOR_CONTRAST) == []


def test_it_tells_what_the_server_says_of_why_there_is_nothing(
    browser: Browser, stage: Stage
) -> None:
    with opened(browser, "about:blank") as witness:
        page = witness.page
        reason = {"error": "the pool of redis.example:6379 is not open yet"}
        page.route("**/events", lambda route: route.fulfill(status=503, json=reason))
        page.goto(stage.url)
        expect(page.locator("#since")).to_have_text(reason["error"])


def test_light_and_dark_are_remembered(screen: Page) -> None:
    root = screen.locator("html")
    screen.keyboard.press("t")
    expect(root).to_have_attribute("data-theme", "dark")
    screen.reload()
    expect(root).to_have_attribute("data-theme", "dark")
    screen.get_by_role("button", name="Light").click()
    expect(root).not_to_have_attribute("data-theme", re.compile("."))


def test_what_the_server_says_is_text(screen: Page) -> None:
    evil = "<img src=x onerror=alert(1)><b>"
    frame = made_up(
        time(),
        endpoint=evil,
        health={"status": "degraded", "reasons": [evil], "round_trip": None},
        lanes=[{"name": evil, "connected": 1, "in_flight": 1, "waiting": 0, "blocked": False}],
        errors=[{"name": evil, "outcome": evil, "rate": 1, "total": 1}],
        retries=[{"reason": evil, "rate": 1, "total": 1}],
    )
    for row in (*frame["commands"], *frame["slow"]):
        row.update(name=evil, command=evil, key=evil)  # type: ignore[call-arg]  # not each has all of them
    frame["breaker"]["error"] = evil
    play(screen, [frame])
    health(screen, "degraded")
    expect(screen.locator("#slow tbody")).to_contain_text(evil)
    assert screen.locator("img").count() == 0
    for place in ("#endpoint", "#reasons", "#pool", "#errors", "#commands", "#breaker"):
        expect(screen.locator(place)).to_contain_text(evil)


def test_what_is_unknown_is_a_dash_and_what_is_empty_says_so(screen: Page) -> None:
    nothing = dict.fromkeys(("mean", "p50", "p95", "p99", "p999", "max"))
    parts = dict.fromkeys(("wait", "queue", "wire", "loop", "parse"))
    frame = made_up(
        time(),
        latency={"count": 0, **nothing},
        split=dict.fromkeys(("mean", "p50", "p95", "p99", "p999"), parts),
        heat=[],
        lanes=[],
        errors=[],
        retries=[],
        commands=[],
        slow=[],
        server=None,
        process=dict.fromkeys(made_up(0)["process"]),
    )
    play(screen, [frame])
    health(screen, "healthy")
    for place, words in (
        ("#latency", "No commands in this time"),
        ("#shares", "No commands, nothing to divide"),
        ("#pool", "No lanes yet"),
        ("#errors", "None since the pool was opened"),
        ("#commands", "No commands in this second"),
        ("#slow", "Nothing yet"),
        ("#server", "not known"),
        ("#process", "Not measured yet"),
    ):
        expect(screen.locator(place)).to_contain_text(words)
    text = screen.locator("main").inner_text()
    assert not re.search(r"NaN|null|undefined|Infinity", text)


def test_a_closed_pool_is_no_alarm(screen: Page) -> None:
    report = {"status": "unhealthy", "reasons": ["the pool is closed"], "round_trip": None}
    play(screen, minutes(health=report, closed=True))
    health(screen, "closed")
    expect(screen.locator("h1")).to_have_text("Pool closed")
    expect(screen.locator("#link-words")).to_have_text("ended")


def test_a_sidecar_says_that_it_shows_itself(screen: Page) -> None:
    play(screen, minutes())
    health(screen, "healthy")
    note = screen.locator("#sidecar")
    expect(note).to_be_hidden()
    expect(screen.locator("#pool h2")).to_have_text("Pool and lanes")
    play(screen, minutes(sidecar=True))
    expect(note).to_be_visible()
    expect(note).to_contain_text("mount monitor_app(pool) in it")
    expect(screen.locator("#pool h2")).to_have_text("The monitor's own pool")
    expect(screen.locator("#suspects h2").nth(2)).to_contain_text("Monitor's pool")
    expect(screen.locator("#suspects h2").nth(3)).to_contain_text("Monitor's process")


def test_it_says_who_is_slow(screen: Page) -> None:
    base = made_up(time())
    slow = {"wait": 0.0, "queue": 0.0, "wire": 0.0, "loop": 0.0, "parse": 0.0}
    usual = base["health"]["round_trip"]
    refused = {"status": "unhealthy", "reasons": ["connection refused"], "round_trip": None}
    silent = {"status": "unhealthy", "reasons": ["no answer in 0.5 s"], "round_trip": None}
    far: dict[str, Any] = {"status": "healthy", "reasons": [], "round_trip": 30 * (usual or 0)}
    full = {"max_size": 8, "size": 8, "in_use": 8, "waiting": 5}
    server: Any = dict(base["server"] or {})
    process: Any = dict(base["process"])
    cases: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({}, {}),
        ({"health": refused, "server": None}, {"Redis": "bad"}),
        ({"health": silent, "server": None}, {"Redis": "bad", "Network": "bad"}),
        ({"health": far}, {"Network": "look"}),
        ({"split": {"p99": slow | {"wire": 0.04}}}, {"Redis": "look"}),
        ({"server": server | {"loading": True}}, {"Redis": "bad"}),
        ({"server": server | {"used_memory": 3_950_000_000}}, {"Redis": "bad"}),
        ({"server": server | {"persistence": "failing"}}, {"Redis": "bad"}),
        ({"pool": full}, {"Pool": "bad"}),
        ({"split": {"p99": slow | {"wait": 0.04}}}, {"Pool": "look"}),
        ({"process": process | {"loop_lag_p99": 0.3}}, {"Program": "bad"}),
        ({"process": process | {"cpu": 1.0}}, {"Program": "look"}),
        ({"split": {"p99": slow | {"loop": 0.04}}}, {"Program": "look"}),
    ]
    frames = [{**base, **changes} for changes, _ in cases]
    found = screen.evaluate(
        """async ([usual, frames]) => {
            const { Suspects } = await import("./suspects.js");
            return frames.map((shown) => {
                const host = document.createElement("section");
                new Suspects(host, { shown, all: usual, recent: () => [shown] }).draw();
                return [...host.children].map((card) => card.dataset.state);
            });
        }""",
        [[base] * 5, frames],
    )
    for (changes, guilty), states in zip(cases, found, strict=True):
        names = ("Redis", "Network", "Pool", "Program")
        expected = {name: guilty.get(name, "good") for name in names}
        assert dict(zip(names, states, strict=True)) == expected, changes


def test_each_of_three_nodes_is_told_and_which_is_down(screen: Page) -> None:
    panel = screen.get_by_role("region", name="Nodes")
    play(screen, minutes())
    health(screen, "healthy")
    expect(panel).to_be_hidden()  # there is but one
    where = screen.locator("#slow tbody").get_by_text("127.0.0.1:7000")
    expect(where).to_be_hidden()
    third = 1 / 3
    nodes = [
        node(1, slots=third, ranges="0-5460", rate=1000.0),
        replica(2, of=1, behind=5000),
        node(3, slots=third, reachable=False, status="unhealthy", breaker="open", rate=0.0),
        replica(4, of=3, reachable=False),
        node(5, slots=third / 2, status="degraded"),
    ]
    play(screen, minutes(nodes=nodes, nodes_in_all=5))
    rows = panel.locator("tbody tr")
    expect(rows).to_have_count(5)
    for row, words in enumerate(
        (
            r"redis-1.*healthy.*33\s%.*1.00\sk/s.*800\sµs",
            r"redis-2.*replica.*heard now, 5.00\skB unconfirmed",
            "redis-3.*down, breaker open",
            "redis-4.*replica, offline",
            "redis-5.*degraded",
        )
    ):
        expect(rows.nth(row)).to_contain_text(re.compile(words))
    expect(panel).to_contain_text(
        "3 primaries · 2 replicas · 17\u202f% of the slots without an owner"
    )
    expect(panel).to_contain_text("2 down")
    expect(screen.locator(".slotmap span")).to_have_count(3)
    expect(screen.locator('.slotmap [data-state="bad"]')).to_have_count(1)
    expect(screen.locator("#suspects")).to_contain_text("2 of 5 nodes down")
    expect(where).to_be_visible()
    assert screen.evaluate(POOR_CONTRAST) == []


def test_of_fifty_nodes_the_troubled_come_first_and_calm_replicas_are_folded(screen: Page) -> None:
    pairs = [(node(n), replica(n + 100, of=n)) for n in range(50)]
    pairs[40] = (node(40, reachable=False, status="unhealthy", rate=0.0), pairs[40][1])
    pairs[45] = (pairs[45][0], replica(145, of=45, reachable=False))
    play(screen, minutes(nodes=[one for pair in pairs for one in pair], nodes_in_all=104))
    panel = screen.get_by_role("region", name="Nodes")
    rows = panel.locator("tbody tr")
    expect(rows).to_have_count(51)
    expect(rows.nth(0)).to_contain_text("redis-40.")
    expect(rows.nth(1)).to_contain_text("redis-145.")
    expect(rows.nth(2)).to_contain_text("redis-0.")
    expect(panel).to_contain_text("2 down · 4 more not shown")
    for width in (360, 1440):
        screen.set_viewport_size({"width": width, "height": 900})
        assert screen.evaluate("document.scrollingElement.scrollWidth") <= width
    screen.set_viewport_size({"width": 1280, "height": 720})
    panel.get_by_role("button", name="Show replicas").press("Enter")
    expect(rows).to_have_count(100)


def test_a_page_left_open_keeps_no_more_than_five_minutes(screen: Page) -> None:
    kept = screen.evaluate("""async () => {
        const { History } = await import("./history.js");
        const history = new History();
        for (let at = 0; at < 5000; at++) {
            history.add([{ at, endpoint: "one", slow: [at] }]);
            if (at % 9 === 0) history.add([...history.frames.slice(-5), {}, null]);
        }
        const ascending = history.frames.every((frame, n, all) => !n || frame.at > all[n - 1].at);
        const slow = history.frames.filter((frame) => frame.slow.length).length;
        const before = history.frames.length;
        history.add([{ at: 4990, endpoint: "one", slow: [] }]);
        const setBack = history.newest.at;
        history.add([{ at: 5000, endpoint: "another", slow: [] }]);
        return { before, ascending, slow, setBack, after: history.frames.length };
    }""")
    assert kept == {"before": 300, "ascending": True, "slow": 1, "setBack": 4990, "after": 1}


def test_figures_have_three_digits_and_a_unit(screen: Page) -> None:
    said = screen.evaluate("""async () => {
        const { time, bytes, rate, count, share, lasting } = await import("./units.js");
        return [time(8.4e-7), time(0.00031), time(0.0009999), time(1.5), time(0), time(null),
            bytes(512), bytes(16384), rate(0.25), rate(950), rate(12400), rate(0.001),
            count(1204881), share(0.004), share(0.824), lasting(8), lasting(260), lasting(788400)];
    }""")
    assert [text.replace("\u202f", " ") for text in said] == (
        "840 ns|310 µs|1.00 ms|1.50 s|0 µs|–|512 B|16.4 kB|0.25|950|12.4 k|<0.01"
        "|1 204 881|<1 %|82 %|8 s|4 min 20 s|9 d 3 h"
    ).split("|")


def test_it_fits_from_a_phone_to_a_wall(screen: Page) -> None:
    play(screen, minutes())
    health(screen, "healthy")
    for width in (360, 768, 1440, 3840):
        screen.set_viewport_size({"width": width, "height": 900})
        assert screen.evaluate("document.scrollingElement.scrollWidth") <= width
    screen.set_viewport_size({"width": 1280, "height": 720})


def test_the_page_is_small_and_asks_nobody_else() -> None:
    files = [path for path in PAGE.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < BYTES
    for path in files:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|innerHTML|outerHTML|insertAdjacent|\beval\(", text), path
        assert not re.search(r"""(?:src|href|action)="/""", text), f"{path} is not relative"


# Of every text that is seen: its colour against what is really behind it.
POOR_CONTRAST: Final = """() => {
    const rgba = (text) => {
        const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
        return [r, g, b, a];
    };
    const over = ([r, g, b, a], [R, G, B]) =>
        [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
    const behind = (node) => {
        const colour = rgba(getComputedStyle(node).backgroundColor);
        if (colour[3] === 1 || !node.parentElement) return colour;
        return over(colour, behind(node.parentElement));
    };
    const luminance = (colour) => {
        const [r, g, b] = colour.slice(0, 3).map((part) => part / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const poor = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
        if (!own || !node.checkVisibility() || node.closest(".sr, noscript")) continue;
        const under = behind(node);
        const text = over(rgba(getComputedStyle(node).color), under);
        const [high, low] = [luminance(text), luminance(under)].sort((a, b) => b - a);
        const contrast = (high + 0.05) / (low + 0.05);
        if (contrast < 4.5) poor.push(`${node.textContent.trim()}: ${contrast.toFixed(2)}`);
    }
    return poor;
}"""
