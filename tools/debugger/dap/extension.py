"""The extension for Visual Studio Code: it declares the debug type, and has no code of its own.

Visual Studio Code starts a debug adapter only for a type that an installed extension declares.  What it installs is a
VSIX: a package by the Open Packaging Conventions (ECMA-376, part 2) that holds a `package.json` and says where.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, Final
from xml.etree import ElementTree as ET

NAME: Final = "callgate"
PUBLISHER: Final = "local"
ENGINE: Final = "^1.80.0"  # versions of Visual Studio Code
LONG_AGO: Final = (1980, 1, 1, 0, 0, 0)  # the time of all files, so that the same extension is the same bytes
MANIFEST: Final = "http://schemas.microsoft.com/developer/vsx-schema/2011"
TYPES: Final = "http://schemas.openxmlformats.org/package/2006/content-types"
PACKAGE: Final = "extension/package.json"
LARGEST: Final = 1 << 20  # bytes of a package.json that is read
TEXTS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "string"}}
LAUNCH: Final[dict[str, dict[str, Any]]] = {
    "program": {"type": "string", "description": "an image, a recording, or FILE.asm::CASE"},
    "images": TEXTS | {"description": "further images"},
    "commands": TEXTS | {"description": "for the guest's shell"},
    "stopOnEntry": {"type": "boolean", "default": True, "description": "stand before the first instruction"},
    "execute": TEXTS | {"description": "commands of the debugger that are carried out first"},
}
"""The arguments of `launch`, as JSON Schema describes them."""


def package(version: str, adapter: Sequence[str]) -> dict[str, Any]:
    """Return the `package.json` of an extension that starts the adapter by a command, given as words."""
    numbers = re.match(r"\d+\.\d+\.\d+", version)
    runtime, *words = adapter
    debugger = {
        "type": NAME,
        "label": NAME,
        "languages": ["asm"],
        "runtime": runtime,
        "runtimeArgs": words,
        "configurationAttributes": {"launch": {"properties": LAUNCH}},
        "initialConfigurations": [
            {"type": NAME, "request": "launch", "name": "df on the demo image", "commands": ["df"]},
        ],
    }
    return {
        "name": NAME,
        "displayName": NAME,
        "description": "Step through an IPC of callgate, forward and backward",
        "publisher": PUBLISHER,
        "version": numbers[0] if numbers else "0.0.0",
        "engines": {"vscode": ENGINE},
        "categories": ["Debuggers"],
        "contributes": {
            "breakpoints": [{"language": "asm"}],
            "languages": [{"id": "asm", "extensions": [".asm", ".inc"]}],
            "debuggers": [debugger],
        },
    }


def packed(version: str, adapter: Sequence[str]) -> bytes:
    """Return the extension as a VSIX."""
    described = package(version, adapter)
    files = {
        "extension.vsixmanifest": manifest(described),
        "[Content_Types].xml": content_types(),
        PACKAGE: json.dumps(described, indent=2).encode(),
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), data)
    return content.getvalue()


def is_ours(content: bytes) -> bool:
    """Whether a file with this content is an extension that `packed` has made, of any version."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(PACKAGE) as file:
            described = json.loads(file.read(LARGEST))
    except (zipfile.BadZipFile, zlib.error, KeyError, ValueError, OSError, EOFError, RuntimeError):
        return False  # RuntimeError: encrypted, or of a kind that Python does not know
    return isinstance(described, dict) and (described.get("name"), described.get("publisher")) == (NAME, PUBLISHER)


def manifest(described: dict[str, Any]) -> bytes:
    """Return the VSIX manifest of a `package.json`."""
    root = ET.Element("PackageManifest", {"Version": "2.0.0", "xmlns": MANIFEST})
    metadata = ET.SubElement(root, "Metadata")
    identity = {"Id": described["name"], "Version": described["version"], "Publisher": described["publisher"]}
    ET.SubElement(metadata, "Identity", {"Language": "en-US"} | identity)
    ET.SubElement(metadata, "DisplayName").text = described["displayName"]
    ET.SubElement(metadata, "Description").text = described["description"]
    ET.SubElement(metadata, "Categories").text = ",".join(described["categories"])
    properties = ET.SubElement(metadata, "Properties")
    engine = {"Id": "Microsoft.VisualStudio.Code.Engine", "Value": described["engines"]["vscode"]}
    ET.SubElement(properties, "Property", engine)
    installation = ET.SubElement(root, "Installation")
    ET.SubElement(installation, "InstallationTarget", {"Id": "Microsoft.VisualStudio.Code"})
    ET.SubElement(root, "Dependencies")
    assets = ET.SubElement(root, "Assets")
    described_by = {"Type": "Microsoft.VisualStudio.Code.Manifest", "Path": PACKAGE}
    ET.SubElement(assets, "Asset", described_by | {"Addressable": "true"})
    return written(root)


def content_types() -> bytes:
    """Return the media types of the files in the package, by the ends of their names."""
    root = ET.Element("Types", {"xmlns": TYPES})
    for end, media in (("json", "application/json"), ("vsixmanifest", "text/xml")):
        ET.SubElement(root, "Default", {"Extension": end, "ContentType": media})
    return written(root)


def written(root: ET.Element) -> bytes:
    """Return a document of XML."""
    document: bytes = ET.tostring(root, "utf-8", xml_declaration=True)
    return document
