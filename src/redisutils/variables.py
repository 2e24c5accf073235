"""The settings among the variables of the environment and of a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from redisutils.errors import ConfigError
from redisutils.files import is_pipe, piped_variables
from redisutils.settings import Layer, from_environment

__all__ = ["DOTENV", "variables"]

DOTENV = ".env"
"""The file that is read without being asked for, and need not be there."""


def variables(
    cls: type[BaseSettings], env_file: str | Path | None
) -> tuple[Layer, list[tuple[str, str]]]:
    """The settings of ``cls`` in the environment and the file, and the unknown ones with the
    nearest right name, or "", each.

    Raises:
        ConfigError: the file cannot be read.
    """
    if env_file not in (DOTENV, None):
        env_file = Path(env_file or "").expanduser()
        if not (env_file.is_file() or is_pipe(env_file)):
            raise ConfigError(f"_env_file={env_file}: there is no such file")
    wrong = ""
    dotenv: Mapping[str, str | None] = {}
    try:
        dotenv = (
            piped_variables(env_file)
            if env_file is not None and is_pipe(env_file)
            else DotEnvSettingsSource(cls, env_file=env_file).env_vars
        )
    except TimeoutError as error:
        wrong = str(error)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        wrong = "is not UTF-8 text"
    if wrong:  # outside, for the decoder's error with the file's bytes not to be the context
        raise ConfigError(f"{env_file}: {wrong}")
    environment = EnvSettingsSource(cls).env_vars
    layer, unknown = from_environment(environment, dotenv, cls.model_fields, str(env_file))
    return layer, sorted(unknown.items())
