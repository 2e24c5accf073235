"""What a command is called in figures."""

import pytest

from redisutils._command_table import TABLE
from redisutils.connection.naming import command_name
from redisutils.connection.packing import pack, pack_many


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("get", "k"), "GET"),
        (("CLIENT", "LIST"), "CLIENT LIST"),
        (("client list",), "CLIENT LIST"),
        (("XGROUP", "CREATE", "k", "g", "0"), "XGROUP CREATE"),
        (("CONFIG", "get", "maxmemory"), "CONFIG GET"),
        (("CLIENT",), "CLIENT"),
        (("CLIENT", "NO-SUCH"), "CLIENT"),
        (("EVAL", "return 1", 0), "EVAL"),
        (("PING",), "PING"),
        (("PING", "LIST"), "PING"),
        (("user 17", "x"), "OTHER"),
    ],
)
def test_a_command_and_its_subcommand(command: tuple[object, ...], name: str) -> None:
    assert command_name(pack(command)) == name


def test_every_subcommand_there_is() -> None:
    names = [name for name in TABLE if " " in name]
    assert len(names) > 50
    for name in names:
        assert command_name(pack((*name.split(), "x"))) == name


def test_batches() -> None:
    assert command_name(pack_many([("GET", "k"), ("GET", "k")]), True) == "PIPELINE"
    assert command_name(pack_many([("MULTI",), ("GET", "k"), ("EXEC",)]), True) == "TRANSACTION"
