"""Packages made by hand: a wheel is a zip with a few texts, so nothing has to be built or fetched."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path


def wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str], needs: tuple[str, ...] = (), scripts: str = ""
) -> str:
    """Make a wheel in `folder`; gives the requirement that names it. `scripts` are lines `name = module:function`."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {one}" for one in needs)]
    texts = {
        **files,
        f"{about}/METADATA": "\n".join(metadata) + "\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{scripts}\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for place, text in texts.items():
            archive.writestr(place, text)
    return f"{name} @ {path.as_uri()}"


def tint(folder: Path, version: str, needs: tuple[str, ...] = ()) -> str:
    """A package `swtint` of this version, with a command of the same name that prints it."""
    code = f"VERSION = {version!r}\n\n\ndef say():\n    print(VERSION)\n"
    return wheel(folder, "swtint", version, {"swtint.py": code}, needs, "swtint = swtint:say")
