"""What the value of a single setting may be, and the words for it.

What settings must be to each other, and where they come from, is for
:mod:`redisutils.config` and :mod:`redisutils.settings`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args, get_origin

from pydantic import BeforeValidator, SecretStr
from pydantic.fields import FieldInfo

from redisutils.address import (
    CLUSTER_PORT,
    SENTINEL_PORT,
    Address,
    address_pairs,
    addresses,
    check_host,
)

if TYPE_CHECKING:
    from pydantic import ValidationInfo
    from pydantic_core import ErrorDetails

__all__ = [
    "AddressPairs",
    "ClientName",
    "Host",
    "Master",
    "Nodes",
    "OptionalPath",
    "OptionalSecret",
    "OptionalText",
    "OptionalUser",
    "complaint",
    "described",
    "in_any_case",
    "number",
]

_OFF = frozenset({"off", "none", ""})
_ALLOWED: dict[object, str] = {}  # what each check of a number lets pass


def number(
    low: float,
    high: float | None = None,
    *,
    whole: bool = False,
    above: bool = False,
    off: float | str | None = "",
) -> BeforeValidator:
    """A finite number from ``low`` (or ``above`` it) to ``high``.

    ``off`` is what the word "off" means; "" when it means nothing here.
    """
    if high is not None:
        bounds = f"between {low:,} and {high:,}"
    else:
        bounds = f"greater than {low:,}" if above else f"{low:,} or more"
    can_be_off = off != ""
    expected = bounds + (", or off" if can_be_off else "")
    kind = "a whole number" if whole else "a number"

    def check(value: object) -> object:
        if can_be_off and (value is None or str(value).strip().lower() in _OFF):
            return off
        try:
            if isinstance(value, bool) or not isinstance(value, (str, int, float)):
                raise TypeError
            # float() would round a long whole number, int() would cut a fraction off.
            figure = int(value) if whole and isinstance(value, str) else float(value)
            if not math.isfinite(figure) or (whole and figure != int(figure)):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"must be {kind} {expected}") from None
        if figure < low or (above and figure == low) or (high is not None and figure > high):
            raise ValueError(f"must be {expected}")
        return int(figure) if whole else figure

    _ALLOWED[check] = f"{kind}, {expected}" if bounds[0].isdigit() else f"{kind} {expected}"
    return BeforeValidator(check)


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _credential(value: object) -> object:
    """Bytes of the environment that are no UTF-8 arrive as halves of characters."""
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("must be UTF-8 text")
    return _empty_is_none(value)


def _home_expanded(value: object) -> object:
    if value == "":
        return None
    return Path(value).expanduser() if isinstance(value, (str, Path)) else value


def _host(value: object) -> object:
    return check_host(value.strip()) if isinstance(value, str) else value


def _client_name(value: object) -> object:
    if isinstance(value, str) and not all("!" <= char <= "~" for char in value):
        raise ValueError("must hold no spaces and only printable ASCII characters")
    return value


def _nodes(value: object, info: ValidationInfo) -> object:
    """A port that is left out is the one of what the mode, checked before, makes of the nodes."""
    port = SENTINEL_PORT if info.data.get("mode") == "sentinel" else CLUSTER_PORT
    return addresses(value, port)


def _address_pairs(value: object) -> object:
    return address_pairs(value)


def _master(value: object) -> object:
    if isinstance(value, str) and any(char <= " " or char == "\x7f" for char in value):
        raise ValueError("must be the name of a primary as the sentinels have it, without spaces")
    return _empty_is_none(value)


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


OptionalPath = Annotated[Path | None, BeforeValidator(_home_expanded)]
OptionalText = Annotated[str | None, BeforeValidator(_empty_is_none)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_credential)]
OptionalUser = Annotated[str | None, BeforeValidator(_credential)]
Host = Annotated[str, BeforeValidator(_host)]
Master = Annotated[str | None, BeforeValidator(_master)]
Nodes = Annotated[tuple[Address, ...], BeforeValidator(_nodes)]
"""To be declared below the field ``mode``."""
AddressPairs = Annotated[tuple[tuple[Address, Address], ...], BeforeValidator(_address_pairs)]
ClientName = Annotated[str, BeforeValidator(_client_name)]
in_any_case = BeforeValidator(_lower)
"""A word that is known however it is written: ``TRUE``, ``Safe``."""

_ALLOWED[_nodes] = "host:port or host, with commas between them"
_ALLOWED[_address_pairs] = "announced=reachable, both host:port, with commas between the pairs"

# What pydantic's own errors are called in our words; ours come as "value_error".
_MUST_BE = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "path_type": "must be a path",
    "string_type": "must be text",
}


def complaint(detail: ErrorDetails) -> str:
    """What is wrong with a value, from pydantic's error: ``must be a path``."""
    cause = detail.get("ctx", {}).get("error")
    if detail["type"] == "literal_error":
        cause = f"must be {detail['ctx']['expected'].replace(chr(39), '')}"
    return str(cause or _MUST_BE.get(detail["type"], detail["msg"]))


def described(field: FieldInfo) -> str:
    """What a setting may be: ``a whole number between 1 and 10,000``."""
    for validator in field.metadata:
        words = _ALLOWED.get(getattr(validator, "func", None))
        if words:
            return words
    kinds = get_args(field.annotation) or (field.annotation,)
    if bool in kinds:
        return "true or false"
    if Path in kinds:
        return "a path"
    if get_origin(field.annotation) is Literal:
        return f"{', '.join(kinds[:-1])} or {kinds[-1]}"
    return "text"
