"""A build backend that builds nothing.

pip asks every source distribution for its metadata before it keeps the download. Answering here
means that no code of the distribution runs, no build environment is made, and nothing else is
downloaded. pip runs this in the unpacked distribution, whose PKG-INFO is the answer.
"""

import shutil
from pathlib import Path


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: object = None
) -> str:
    """Write the ``.dist-info`` that pip wants and return its name."""
    dist_info = Path(metadata_directory, "download.dist-info")
    dist_info.mkdir()
    shutil.copyfile("PKG-INFO", dist_info / "METADATA")
    return dist_info.name


def build_wheel(
    wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None
) -> str:
    """Refuse: whoever comes here wanted more than a download."""
    raise NotImplementedError("only for downloading")
