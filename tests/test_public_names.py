"""What the packages offer is there, though it is imported only when it is asked for."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import redisutils
import redisutils.testing

PACKAGES = [redisutils, redisutils.testing]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_each_name_is_found_by_every_way(package: ModuleType) -> None:
    found: dict[str, object] = {}
    exec(f"from {package.__name__} import *", found)
    for name in package.__all__:
        assert found[name] is getattr(package, name)
        assert name in dir(package)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = package.Nothing


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_the_package_alone_imports_nothing_heavy(package: ModuleType) -> None:
    program = (
        f"import sys, {package.__name__}\n"
        "print(*{'asyncio', 'hiredis', 'pydantic', 'redis', 'uvloop'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("name", ["client", "commands", "errors", "metrics", "pool", "retry"])
def test_what_the_package_is_made_of_is_an_attribute_at_once(name: str) -> None:
    program = f"import redisutils; print(redisutils.{name}.__name__)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"redisutils.{name}"
