"""The files for Visual Studio Code in docs/editors.md: what its packager and a validator of schemas say of them."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import host_programs
import pytest

DOCUMENT = Path(__file__).parents[4] / "docs" / "editors.md"
PACKAGES = Path(sys.prefix) / "node" / "node_modules"  # where .ci/run puts it
OF_THE_EDITOR = {"type", "request", "name", "debugServer"}  # attributes that an adapter never sees
VALIDATOR = """
const Ajv = require("ajv");
const check = new Ajv({ strict: false }).compile(JSON.parse(process.argv[1]));
for (const one of JSON.parse(process.argv[2])) console.log(check(one) ? "good" : check.errors[0].message);
"""


def files() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the extension's package.json and the launch.json."""
    package, launch = re.findall(r"^```json\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return json.loads(package), json.loads(launch)


def attributes(package: dict[str, Any]) -> dict[str, Any]:
    (debugger,) = package["contributes"]["debuggers"]
    found: dict[str, Any] = debugger["configurationAttributes"]["launch"]["properties"]
    return found


def test_the_extension_declares_each_argument_of_launch_and_no_other() -> None:
    package, launch = files()
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


@pytest.mark.thorough(only=True)
@pytest.mark.usefixtures("packages")
def test_the_editors_packager_takes_the_extension(tmp_path: Path) -> None:
    package, _ = files()
    code, said = packaged(tmp_path, package)
    assert code == 0, said
    assert (tmp_path / "callgate-0.0.1.vsix").stat().st_size > 0
    code, said = packaged(tmp_path, package | {"engines": {"vscode": "soon"}})
    assert code != 0
    assert "soon" in said


@pytest.mark.thorough(only=True)
@pytest.mark.usefixtures("packages")
def test_the_configurations_fit_the_schema_that_the_editor_makes_of_the_extension() -> None:
    package, launch = files()
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
