"""The extension for Visual Studio Code, and docs/editors.md: what its packager and a validator of schemas say."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import host_programs
import pytest
from callgate.tools.debugger.dap.extension import is_ours
from forked import Forked

DOCUMENT = Path(__file__).parents[4] / "docs" / "editors.md"
PACKAGES = Path(sys.prefix) / "node" / "node_modules"  # where .ci/run puts it
OF_THE_EDITOR = {"type", "request", "name", "debugServer"}  # attributes that an adapter never sees
VALIDATOR = """
const Ajv = require("ajv");
const check = new Ajv({ strict: false }).compile(JSON.parse(process.argv[1]));
for (const one of JSON.parse(process.argv[2])) console.log(check(one) ? "good" : check.errors[0].message);
"""


def debug(*arguments: str) -> tuple[int, str]:
    """Run `callgate debug`; return its exit code and what it says."""
    with Forked("debug", *arguments) as ran:
        _, said = ran.communicate(timeout=60)
    assert ran.returncode is not None
    return ran.returncode, said.decode()


@pytest.fixture
def extension(tmp_path: Path) -> zipfile.ZipFile:
    """Have the extension written."""
    path = tmp_path / "callgate.vsix"
    said = f"callgate: {path} is written; install it by: code --install-extension {path}\n"
    assert debug("--vsix", str(path)) == (0, said)
    return zipfile.ZipFile(path)


@pytest.fixture
def package(extension: zipfile.ZipFile) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(extension.read("extension/package.json"))
    return described


def launches() -> dict[str, Any]:
    """Return the document's launch.json."""
    (launch,) = re.findall(r"^```json\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = json.loads(launch)
    return found


def attributes(package: dict[str, Any]) -> dict[str, Any]:
    (debugger,) = package["contributes"]["debuggers"]
    found: dict[str, Any] = debugger["configurationAttributes"]["launch"]["properties"]
    return found


def test_the_extension_declares_each_argument_of_launch_and_no_other(package: dict[str, Any]) -> None:
    launch = launches()
    table = DOCUMENT.read_text("utf-8").partition("## What `launch` takes")[2].partition("##")[0]
    assert list(attributes(package)) == re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    for configuration in launch["configurations"]:
        assert set(configuration) <= {*OF_THE_EDITOR, *attributes(package)}
        assert {"type": "callgate", "request": "launch"}.items() <= configuration.items()


def packaged(folder: Path, package: dict[str, Any]) -> tuple[int, str]:
    """Have the editor's packager make an extension; return its exit code and what it says."""
    (folder / "package.json").write_text(json.dumps(package))
    program = PACKAGES / "@vscode" / "vsce" / "vsce"
    options = ("package", "--allow-missing-repository", "--skip-license")
    done = host_programs.attempt("node", program, *options, folder=folder)
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.fixture
def packages() -> None:
    host_programs.find("node")
    if not (PACKAGES / "@vscode" / "vsce").is_dir():
        pytest.skip("@vscode/vsce is not installed (npm, see .ci/run)")


def test_the_extension_starts_the_adapter_by_a_command_that_works_in_any_folder(
    tmp_path: Path, package: dict[str, Any]
) -> None:
    (debugger,) = package["contributes"]["debuggers"]
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the folder')")
    body = json.dumps({"seq": 1, "type": "request", "command": "initialize"}).encode()
    asked = b"Content-Length: %d\r\n\r\n" % len(body) + body
    command = [debugger["runtime"], *debugger["runtimeArgs"]]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=tmp_path, env={}) as adapter:
        assert adapter.stdin is not None
        assert adapter.stdout is not None
        adapter.stdin.write(asked)
        adapter.stdin.flush()
        length = int(adapter.stdout.readline().partition(b":")[2])
        assert b'"supportsStepBack": true' in adapter.stdout.read(2 + length)
    assert adapter.returncode == 0


def test_the_same_extension_is_the_same_bytes(tmp_path: Path) -> None:
    names = tmp_path / "one.vsix", tmp_path / "two.vsix"
    for name in names:
        assert debug("--vsix", str(name))[0] == 0
    assert names[0].read_bytes() == names[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("their.img", "--vsix", "a.vsix"), "--vsix: nothing else is given with it"),
        (("--vsix", "a.vsix", "--plain"), "--vsix: nothing else is given with it"),
        (("--vsix", "a.zip"), "--vsix: Visual Studio Code wants a name that ends in .vsix; give --vsix a.vsix"),
        (("--vsix", ""), "--vsix: Visual Studio Code wants a name that ends in .vsix; give --vsix callgate.vsix"),
        (("--vsix", "missing/a.vsix"), "Could not open file 'missing/a.vsix': No such file or directory"),
    ],
)
def test_an_extension_that_cannot_be_written_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = debug(*arguments)
    assert code != 0
    assert message in said
    assert not list(tmp_path.iterdir())


def test_an_extension_replaces_an_earlier_one_and_no_other_file(tmp_path: Path) -> None:
    path, letter, link = tmp_path / "a.vsix", tmp_path / "letter", tmp_path / "b.vsix"
    assert debug("--vsix", str(path))[0] == 0
    written = path.read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("extension/more", "of an older version")
    assert debug("--vsix", str(path))[0] == 0
    assert path.read_bytes() == written
    letter.write_text("Dear reader")
    link.symlink_to(letter)
    code, said = debug("--vsix", str(link))
    assert code == 2
    assert f"{link}: already exists, and is not a Visual Studio Code extension of callgate" in said
    assert letter.read_text() == "Dear reader"


def test_an_extension_of_another_publisher_is_not_taken_for_an_earlier_one(package: dict[str, Any]) -> None:
    def archive(described: object) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as packed:
            packed.writestr("extension/package.json", json.dumps(described))
        return content.getvalue()

    assert is_ours(archive(package))
    assert is_ours(archive(package | {"version": "0.0.1"}))
    assert not is_ours(archive(package | {"publisher": "another"}))
    assert not is_ours(archive([]))
    assert not is_ours(archive(package)[:-30])
    assert not is_ours(b"")


def says(manifest: bytes) -> dict[str, Any]:
    """Return what an editor takes from the manifest of an extension: whose it is, for which editors, and where."""
    root = ET.fromstring(manifest)
    names = {"v": "http://schemas.microsoft.com/developer/vsx-schema/2011"}
    identity, installed = root.find(".//v:Identity", names), root.find(".//v:InstallationTarget", names)
    assert identity is not None
    assert installed is not None
    properties = {one.get("Id"): one.get("Value") for one in root.iterfind(".//v:Property", names)}
    assets = {one.get("Type"): one.get("Path") for one in root.iterfind(".//v:Asset", names)}
    of_the_editor = "Microsoft.VisualStudio.Code."
    return {
        "identity": identity.attrib,
        "target": installed.attrib,
        "name": root.findtext(".//v:DisplayName", None, names),
        "description": root.findtext(".//v:Description", None, names),
        "categories": root.findtext(".//v:Categories", None, names),
        "engine": properties[of_the_editor + "Engine"],
        "package": assets[of_the_editor + "Manifest"],
    }


@pytest.mark.thorough(only=True)
@pytest.mark.usefixtures("packages")
def test_the_editors_packager_makes_the_same_extension(
    tmp_path: Path, extension: zipfile.ZipFile, package: dict[str, Any]
) -> None:
    code, said = packaged(tmp_path, package)
    assert code == 0, said
    with zipfile.ZipFile(tmp_path / f"callgate-{package['version']}.vsix") as theirs:
        assert set(extension.namelist()) <= set(theirs.namelist())
        ours, other = (says(one.read("extension.vsixmanifest")) for one in (extension, theirs))
        assert ours == other
        assert json.loads(theirs.read("extension/package.json")) == package
    code, said = packaged(tmp_path, package | {"engines": {"vscode": "soon"}})
    assert code != 0
    assert "soon" in said


@pytest.mark.thorough(only=True)
@pytest.mark.usefixtures("packages")
def test_the_configurations_fit_the_schema_that_the_editor_makes_of_the_extension(
    package: dict[str, Any],
) -> None:
    launch = launches()
    own = {"type": {"const": "callgate"}, "request": {"enum": ["launch"]}, "name": {"type": "string"}}
    schema = {
        "type": "object",
        "required": ["type", "request", "name"],
        "properties": own | {"debugServer": {"type": "integer"}} | attributes(package),
        "additionalProperties": False,
    }
    wrong = launch["configurations"][0] | {"commands": "df"}
    said = host_programs.run(
        "node",
        "-e",
        VALIDATOR,
        json.dumps(schema),
        json.dumps([*launch["configurations"], wrong]),
        NODE_PATH=str(PACKAGES),
    )
    assert said.split("\n")[:-1] == [*["good"] * len(launch["configurations"]), "must be array"]
