"""``redisutils env``: every setting explained; what is in force, with its source; no secret."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from rich.console import Console
from typer.testing import CliRunner, Result

from redisutils.cli.app import app
from redisutils.cli.env.catalogue import catalogue
from redisutils.cli.env.effective import effective
from redisutils.cli.env.template import WIDTH, template
from redisutils.cli.env.view import show
from redisutils.config import RedisConfig, allowed, sources
from redisutils.errors import ConfigError

from .canary import ENCODED, NEEDLE

ROOT = Path(__file__).parent.parent


pytestmark = pytest.mark.usefixtures("empty_surroundings")


def env(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(app, ["env", *arguments], env=variables)


def in_force(**variables: str) -> tuple[int, dict[str, Any], dict[str, dict[str, Any]]]:
    """Exit code, the JSON as a whole, and its settings by name."""
    done = env("--effective", "--json", **variables)
    assert not done.stderr
    told = json.loads(done.stdout)
    return done.exit_code, told, {one["name"]: one for one in told["settings"]}


# The template


def test_the_template_is_the_example_file() -> None:
    assert template() == (ROOT / ".env.example").read_text(encoding="utf-8"), (
        "make it anew: python -m redisutils.cli env > .env.example"
    )
    assert max(map(len, template().splitlines())) <= WIDTH


def test_every_setting_is_explained() -> None:
    settings = [setting for section in catalogue() for setting in section.settings]
    assert [one.name for one in settings] == [*RedisConfig.model_fields, "log"]
    for setting in settings:
        assert setting.meaning.endswith("."), setting
        assert setting.default is not None or setting.example is not None, setting
        assert not set(setting.meaning) & set('`"'), setting


def test_what_is_allowed_is_what_is_checked() -> None:
    assert allowed("port") == "a whole number between 1 and 65,535"
    assert allowed("pool_timeout") == "a number, 0 or more, or off"
    assert allowed("command_timeout") == "a number greater than 0"
    assert allowed("retry") == "safe, never or always"
    assert allowed("tls_enabled") == "true or false"
    assert allowed("password_file") == "a path"
    assert allowed("password") == allowed("host") == "text"


def test_the_template_works_as_a_file(tmp_path: Path) -> None:
    """With every # taken away, but for what cannot be set together and files that are not there."""
    done = env()
    assert done.exit_code == 0
    lines = [line.removeprefix("#") for line in done.stdout.splitlines() if "#REDIS_" in line]
    away = {"REDIS_URL", "REDIS_PASSWORD_FILE", "REDIS_HOST", "REDIS_PORT"}
    text = "\n".join(line for line in lines if line.partition("=")[0] not in away)
    for default, other in (
        ("TLS_ENABLED=false", "TLS_ENABLED=true"),
        ("MODE=standalone", "MODE=sentinel"),
        ("READ_FROM=primary", "READ_FROM=nearest"),
    ):
        assert default in text
        text = text.replace(default, other)
    Path(".env").write_text(text, "utf-8")
    found = RedisConfig()
    assert found.model_fields_set == {
        name for name in RedisConfig.model_fields if f"REDIS_{name.upper()}" not in away
    }
    assert found.password == SecretStr("secret")
    assert found.nodes[2] == ("fd00::3", 7000)


def test_the_template_as_json() -> None:
    told = json.loads(env("--json").stdout)
    [port] = [one for part in told["sections"] for one in part["settings"] if one["name"] == "port"]
    assert port == {
        "name": "port",
        "variable": "REDIS_PORT",
        "meaning": "The server's port; 26379 when not set and the host is a sentinel.",
        "allowed": "a whole number between 1 and 65,535",
        "default": "6379",
        "example": None,
    }


# What is in force


def test_each_value_has_its_source() -> None:
    Path(".env").write_text(
        "\n# ours\nexport REDIS_HOST=10.0.0.5\nREDIS_PORT=1\n\n\nREDIS_PORT=7000\n", "utf-8"
    )
    code, told, settings = in_force(REDIS_COMMAND_TIMEOUT="2.50")
    assert (code, told["status"], told["problems"], told["unknown"]) == (0, "ok", [], [])
    place = str(Path(".env").absolute())
    assert settings["host"] == {
        "name": "host",
        "variable": "REDIS_HOST",
        "value": "10.0.0.5",
        "source": ".env",
        "given_by": "REDIS_HOST",
        "file": place,
        "line": 3,
    }
    assert (settings["port"]["value"], settings["port"]["line"]) == ("7000", 7)
    assert settings["command_timeout"]["value"] == "2.5"
    assert settings["command_timeout"]["source"] == "environment"
    assert settings["pool_max_size"]["value"] == "10"
    assert settings["pool_max_size"]["source"] == "default"
    assert settings["pool_timeout"]["value"] == "off"
    assert settings["username"]["value"] is None
    assert [*settings] == [*RedisConfig.model_fields]


def test_the_environment_goes_before_the_file() -> None:
    Path(".env").write_text("REDIS_PORT=7000\n", "utf-8")
    _, _, settings = in_force(REDIS_PORT="7001")
    assert (settings["port"]["value"], settings["port"]["source"]) == ("7001", "environment")
    assert settings["port"]["line"] is None


def test_parts_of_a_url_name_it_and_secrets_stay_hidden() -> None:
    Path(".env").write_text(f"REDIS_URL=rediss://alice:{ENCODED}@db.example:7000/3\n", "utf-8")
    code, told, settings = in_force()
    assert code == 0
    assert settings["url"]["value"] == "rediss://alice:***@db.example:7000/3"
    assert settings["password"]["value"] == "***"
    assert (settings["tls_enabled"]["value"], settings["database"]["value"]) == ("true", "3")
    assert {settings[name]["given_by"] for name in ("host", "port", "username")} == {"REDIS_URL"}
    for shown in (env("--effective").stdout, json.dumps(told)):
        assert NEEDLE not in shown


def test_many_servers_are_shown_as_they_are_written() -> None:
    code, told, settings = in_force(
        REDIS_URL=f"redis+sentinel://alice:{ENCODED}@[::1]:7000,db/mymaster/3",
        REDIS_SENTINEL_PASSWORD=NEEDLE,
        REDIS_ADDRESS_MAP="10.0.0.1:7=h:8, [::1]:7=h:9",
    )
    assert (code, told["problems"]) == (0, [])
    shown = {name: settings[name]["value"] for name in ("mode", "nodes", "address_map")}
    assert shown == {
        "mode": "sentinel",
        "nodes": "[::1]:7000,db:26379",
        "address_map": "10.0.0.1:7=h:8,[::1]:7=h:9",
    }
    assert settings["sentinel_password"]["value"] == "***"
    assert settings["nodes"]["given_by"] == settings["sentinel_master"]["given_by"] == "REDIS_URL"
    assert settings["url"]["value"] == "redis+sentinel://alice:***@[::1]:7000,db/mymaster/3"
    assert NEEDLE not in json.dumps(told)


@pytest.mark.parametrize("width", ["60", "200"])
def test_it_reads_well_at_any_width(width: str) -> None:
    done = env("--effective", COLUMNS=width, REDIS_URL="redis://h:7000", NO_COLOR="1")
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    [row] = [line for line in done.stdout.splitlines() if line.startswith("REDIS_PORT")]
    assert row.split() == ["REDIS_PORT", "7000", "REDIS_URL", "in", "the", "environment"]


@pytest.mark.parametrize("width", [60, 120])
def test_on_a_terminal_it_is_no_wider(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://alice@db.example:7000/3")
    monkeypatch.setenv("REDIS_POOL_MAX_CONNEXIONS", "5")
    monkeypatch.setenv("REDIS_RETRY", "perhaps")
    out = io.StringIO()
    show(effective(), Console(file=out, width=width, force_terminal=True, color_system=None))
    head, *lines = out.getvalue().splitlines()
    assert head.startswith("From the environment, ")  # and a path, which may be long
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "REDIS_PORT 7000 REDIS_URL in the environment" in text
    assert "✗ REDIS_RETRY=perhaps: must be safe, never or always" in text
    assert "✗ REDIS_POOL_MAX_CONNEXIONS is no setting of redisutils: did you mean" in text


def test_wrong_settings_are_all_named_and_nothing_secret() -> None:
    done = env(
        "--effective",
        REDIS_PORT="7x",
        REDIS_RETRY="perhaps",
        REDIS_PASSWORD=NEEDLE,
        REDIS_HOST=f"redis://u:{NEEDLE}@h",
        REDIS_PASSWROD=NEEDLE,
    )
    assert done.exit_code == 1
    assert "✗ REDIS_PORT=7x: must be a whole number between 1 and 65,535" in done.stdout
    assert "✗ REDIS_RETRY=perhaps: must be safe, never or always" in done.stdout
    assert "✗ REDIS_HOST=redis://u:***@h: must be a host alone" in done.stdout
    unknown = "REDIS_PASSWROD is no setting of redisutils: did you mean REDIS_PASSWORD?"
    assert unknown in done.stdout
    assert NEEDLE not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_url_hides_its_password() -> None:
    code, told, settings = in_force(REDIS_URL=f"redis://u:{NEEDLE}/x@h")
    assert (code, told["status"], len(told["problems"])) == (1, "error", 1)
    assert "percent-encoded" in told["problems"][0]
    assert settings["host"]["value"] == "localhost"
    assert NEEDLE not in json.dumps(told)


def test_a_misspelt_variable_alone_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    Path(".env").write_text("REDIS_POOL_SIZE=20\n", "utf-8")
    code, told, _ = in_force()
    assert code == 1
    assert told["unknown"] == [
        {"variable": "REDIS_POOL_SIZE (in .env)", "meant": "REDIS_POOL_MAX_SIZE"}
    ]
    assert not caplog.records  # once is enough


def test_a_file_that_is_no_text_is_said() -> None:
    Path(".env").write_bytes(b"REDIS_PASSWORD=\xff\xfe\n")
    done = env("--effective")
    assert done.exit_code == 1
    assert "✗ .env: is not UTF-8 text" in done.stdout


def test_sources_say_no_secret() -> None:
    Path(".env").write_text(f"REDIS_PASSWORD={NEEDLE}\n", "utf-8")
    found = sources()
    assert NEEDLE not in repr(found)
    assert found.given["password"].value == NEEDLE


def test_help_has_examples() -> None:
    told = env("--help").stdout.splitlines()
    assert "    redisutils env > .env.example" in told
    assert "    2  wrong usage" in told


# No secret, wherever in the settings it stands

DIGITS = "48151623"
"""A password that could be a number's."""


@pytest.mark.parametrize("secret", [NEEDLE, DIGITS])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("URL", "redis://127.0.0.1:1?password={}"),
        ("URL", "redis://127.0.0.1:1?db=1&pass={}"),
        ("URL", "redis://127.0.0.1:1?{}"),
        ("URL", "redis://127.0.0.1:1#{}"),
        ("URL", "redis://{}@127.0.0.1:1"),
        ("URL", "redis://u:{}@127.0.0.1:1"),
        ("URL", "redis://u:{}%40127.0.0.1:1"),
        ("URL", "redis://{}%40127.0.0.1:1"),
        ("URL", "redis://:{}"),
        ("URL", "redis://127.0.0.1:{}"),
        ("URL", "redis://127.0.0.1:1/x{}"),
        ("URL", "redis://127.0.0.1:1/0/{}"),
        ("URL", "redis://127.0.0.1:1 {}"),
        ("URL", "embedded:///x{}"),
        ("URL", "unix:///no/such.sock?password={}"),
        ("URL", "u:{}@127.0.0.1"),
        ("URL", "http://127.0.0.1/{}x"),
        ("URL", "redis+cluster://u:{}@127.0.0.1:1,127.0.0.1:2"),
        ("URL", "redis+cluster://127.0.0.1:2,u:{}@127.0.0.1:1"),
        ("URL", "redis+cluster://127.0.0.1:{}"),
        ("URL", "redis+cluster://127.0.0.1:1,127.0.0.1:{}"),
        ("URL", "redis+cluster://127.0.0.1:1/{}x"),
        ("URL", "redis+cluster://127.0.0.1:1?password={}"),
        ("URL", "redis+cluster://127.0.0.1:1,x={}"),
        ("URL", "redis+cluster://u:x,{}"),
        ("URL", "redis+sentinel://u:{}@127.0.0.1:1/m"),
        ("URL", "redis+sentinel://u:x/{}"),
        ("URL", "redis+sentinel://u:{}/x@127.0.0.1:1/m"),
        ("URL", "redis+sentinel://127.0.0.1:1/m/x{}"),
        ("URL", "redis+sentinel://127.0.0.1:1/m?password={}"),
        ("URL", "redis+nonsense://127.0.0.1:1,u:{}@h"),
        ("NODES", "u:{}@127.0.0.1:1"),
        ("NODES", "127.0.0.1:1,127.0.0.1:{}"),
        ("NODES", "redis://127.0.0.1:1,redis://u:{}@127.0.0.1:2"),
        ("NODES", "127.0.0.1:1?password={}"),
        ("ADDRESS_MAP", "a:1=u:{}@b:2"),
        ("ADDRESS_MAP", "a:1=b:{}"),
        ("SENTINEL_PASSWORD", "{}"),
        ("SENTINEL_MASTER", "redis://u:{}@127.0.0.1"),
        ("READ_ZONE", "redis://u:{}@127.0.0.1"),
        ("HOST", "u:{}@127.0.0.1"),
        ("HOST", "{}@127.0.0.1"),
        ("HOST", "127.0.0.1/{}x"),
        ("HOST", "127.0.0.1:{}"),
        ("HOST", "127.0.0.1?password={}"),
        ("PORT", "u:{}@127.0.0.1"),
        ("PORT", "redis://u:{}@127.0.0.1:1"),
        ("DATABASE", "u:{}@127.0.0.1"),
        ("CLIENT_NAME", "redis://u:{}@127.0.0.1:1"),
        ("CLIENT_NAME", "u:{}@127.0.0.1"),
        ("USERNAME", "u:{}@127.0.0.1"),
        ("COMMAND_TIMEOUT", "u:{}@127.0.0.1"),
    ],
)
def test_no_secret_is_shown(
    variable: str, value: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"REDIS_{variable}", value.format(secret))
    if variable not in ("URL", "HOST"):
        monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    if variable not in ("URL", "PORT"):
        monkeypatch.setenv("REDIS_PORT", "1")
    shown = ""
    for arguments in (["env", "--effective"], ["check", "--timeout", "1"]):
        for more in ([], ["--json"]):
            done = CliRunner().invoke(app, arguments + more)
            shown += done.output
    try:
        shown += repr(RedisConfig().url)
    except ConfigError as error:
        shown += str(error)
    assert secret not in shown
