"""Macros: definition, arguments, substitution."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from callgate.asm.assembler.language.errors import AsmError, Place
from callgate.asm.assembler.language.mnemonics import MNEMONICS
from callgate.asm.assembler.language.source import Line

HEADER = re.compile(r"(?P<name>[A-Za-z_]\w*)\s*,?\s*(?P<rest>.*)$", re.ASCII | re.DOTALL)
PARAMETER = re.compile(
    r"(?P<name>[A-Za-z_]\w*)\s*(?::\s*(?P<kind>req|vararg)\b\s*)?(?:=\s*(?P<default>.*))?$", re.ASCII | re.DOTALL
)
NAMED = re.compile(r"(?P<name>[A-Za-z_]\w*)\s*=(?!=)\s*(?P<value>.*)$", re.ASCII | re.DOTALL)
USE = re.compile(r"\\(?:(?P<escape>\\)|(?P<join>\(\))|(?P<name>[@+]|[A-Za-z_]\w*))", re.ASCII)
# In strings these mean characters; a parameter named like one of them is not seen there.
STRING_ESCAPES = frozenset("nrtebafvx")
ARGUMENT = re.compile(
    r""""(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])' | [\[\](),] | [^"'\[\](),]+ | .""", re.VERBOSE | re.DOTALL
)
GROUPS = re.compile(r"""["'\[\]()]""")  # what may hold a comma that separates nothing
LENGTH_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Macro:
    """A macro: parameters with defaults (None = required), body, place of its definition.

    `variable` says that the last parameter takes every argument that is left.
    """

    name: str
    parameters: tuple[tuple[str, str | None], ...]
    body: tuple[Line, ...]
    place: Place
    variable: bool = False


def define(macros: dict[str, Macro], rest: str, body: list[Line], place: Place) -> None:
    """Add the macro that `.macro rest` begins."""
    match = HEADER.match(rest)
    if match is None:
        raise AsmError(place, ".macro wants a name", "write .macro name a, b=default")
    name = match["name"]
    if name.lower() in MNEMONICS:
        raise AsmError(place, f"{name} is an instruction", "give the macro another name")
    if name in macros:
        first = macros[name].place
        raise AsmError(place, f"macro {name} is defined twice", f"the first time at {first.file}:{first.line}")
    parameters: dict[str, str | None] = {}
    words = split_arguments(match["rest"])
    if len(words) == 1 and "=" not in words[0]:
        words = words[0].split()
    variable = False
    for word in filter(None, words):
        parameter = PARAMETER.match(word)
        if parameter is None or parameter["name"] in parameters:
            raise AsmError(place, f"{word!r} cannot be a parameter", "write .macro name a, b=default")
        if variable:
            raise AsmError(place, f"{word!r} follows a :vararg parameter", "put :vararg last")
        variable = parameter["kind"] == "vararg"
        default = parameter["default"]
        if parameter["kind"] == "req" and default is not None:
            raise AsmError(place, f"{parameter['name']} is required and has a default", "leave :req or the default out")
        parameters[parameter["name"]] = "" if variable and default is None else default
    macros[name] = Macro(name, tuple(parameters.items()), tuple(body), place, variable)


def bind(macro: Macro, rest: str, place: Place) -> dict[str, str]:
    """Return the parameters' values in a call: by position, then by name."""
    given = split_arguments(rest) if rest.strip() else []
    names = dict(macro.parameters)
    named: dict[str, str] = {}
    while given and (match := NAMED.match(given[-1])) and match["name"] in names:
        if match["name"] in named:
            raise AsmError(place, f"macro {macro.name} is given {match['name']} twice", signature(macro))
        named[match["name"]] = match["value"]
        given.pop()
    for part in given:
        match = NAMED.match(part)
        if match and match["name"] in names:
            raise AsmError(place, "an argument without a name follows a named one", signature(macro))
    wanted = len(names)
    if macro.variable and len(given) > wanted:
        given[wanted - 1 :] = [", ".join(given[wanted - 1 :])]
    if len(given) > wanted:
        takes = f"{wanted} argument" + ("" if wanted == 1 else "s")
        raise AsmError(place, f"macro {macro.name} takes {takes}, {len(given)} are given", signature(macro))
    values: dict[str, str] = {}
    for position, (name, default) in enumerate(macro.parameters):
        if name in named and position < len(given) and given[position]:
            raise AsmError(place, f"macro {macro.name} is given {name} twice", signature(macro))
        value = given[position] if position < len(given) and given[position] else named.get(name, default)
        if value is None:
            raise AsmError(place, f"macro {macro.name} needs {name}", signature(macro))
        values[name] = value
    return values


def signature(macro: Macro) -> str:
    """Return how a macro is called."""
    names = ", ".join(name if default is None else f"{name}={default}" for name, default in macro.parameters)
    return f"it is {macro.name} {names}".rstrip()


def instantiate(macro: Macro, values: Mapping[str, str], call: Place) -> list[Line]:
    """Return the body of a call with parameters replaced."""
    link = f"in macro {macro.name} called from {call.file}:{call.line}"
    chain = (link, *call.chain)
    outermost = call.call or (call.file, call.line)
    lines = []
    for line in macro.body:
        copy = substitute(line, values)
        place = Place(line.place.file, line.place.line, 1, copy.text, chain, outermost)
        lines.append(Line(copy.text, place))
    return lines


def substitute(line: Line, values: Mapping[str, str]) -> Line:
    """Replace parameters in a line; other words stay, for macros defined inside or for the error."""
    if "\\" not in line.text:
        return line
    out: list[str] = []
    position = 0
    for match in USE.finditer(line.text):
        value = "" if match["join"] else values.get(match["name"] or "")
        escape = match["join"] or match["name"] in STRING_ESCAPES
        if value is None or (escape and inside_string(line.text, match.start())):
            continue
        out += (line.text[position : match.start()], value)
        position = match.end()
    text = "".join((*out, line.text[position:]))
    if len(text) > LENGTH_LIMIT:
        raise AsmError(line.place, f"the expanded line is longer than {LENGTH_LIMIT} characters")
    return Line(text, line.place._replace(text=text))


def inside_string(text: str, position: int) -> bool:
    """Whether a position lies within a quoted string or character constant."""
    quote = ""
    index = 0
    while index < position:
        char = text[index]
        if quote and char == "\\":
            index += 1
        elif quote and char == quote:
            quote = ""
        elif not quote and char in "\"'":
            quote = char
        index += 1
    return bool(quote)


def split_arguments(text: str) -> list[str]:
    """Split at commas outside brackets and strings, without the blanks around."""
    if not GROUPS.search(text):
        return [part.strip() for part in text.split(",")]
    parts = [""]
    depth = 0
    for match in ARGUMENT.finditer(text):
        piece = match[0]
        if piece == "," and depth <= 0:
            parts.append("")
            continue
        depth += (piece in ("(", "[")) - (piece in (")", "]"))
        parts[-1] += piece
    return [part.strip() for part in parts]
