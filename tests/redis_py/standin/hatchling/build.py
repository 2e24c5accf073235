"""A build backend that builds nothing.

pip asks every source distribution for its metadata before it keeps the download. Answering here
means that no code of the distribution runs, no build environment is made, and nothing else is
downloaded. pip runs this in the unpacked distribution, whose PKG-INFO is the answer.
"""

from email.parser import Parser
from pathlib import Path


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: object = None
) -> str:
    """Write the ``.dist-info`` that pip wants and return its name."""
    metadata = Path("PKG-INFO").read_text(encoding="utf-8")
    fields = Parser().parsestr(metadata, headersonly=True)
    dist_info = Path(metadata_directory, f"{fields['Name']}-{fields['Version']}.dist-info")
    dist_info.mkdir()
    dist_info.joinpath("METADATA").write_text(metadata, encoding="utf-8")
    return dist_info.name


def build_wheel(
    wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None
) -> str:
    """Refuse: whoever comes here wanted more than a download."""
    raise NotImplementedError("only for downloading")
