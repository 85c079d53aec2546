"""Objects of gcc, nasm and GNU as under test: linked as ld links them, called, and shown by symbol and line."""

from contextlib import suppress
from pathlib import Path

import host_programs
import pytest
from callgate.tools.asmtest.board.result import RoutineError
from callgate.tools.asmtest.cases.report import describe_call
from callgate.tools.asmtest.objects.linking import SOURCE_ORIGIN, STUBS
from callgate.tools.asmtest.objects.relocatable import ObjectError

LIBRARY = """
extern int puts(const char *);
extern int limit;
static int counter = 5;
int total[3];
const char *const names[] = {"first", "second"};
static int triple(int a) { return a * 3; }
int (*const table[])(int) = {triple};
int bump(int by) { counter += by; total[1]++; return counter; }
int greet(void) { return puts(names[1]); }
double half(double x) { return x / 2; }
long long product(long long a, int b) { return a * b; }
int through(int a) { return table[0](a) + limit; }
void spoil(char *unused) { ((char *)names[0])[0] = 'x'; }
int crash(int *p) {
    return *p;
}
"""
OTHER = (
    "extern int bump(int); extern int shared; int shared = 7; int twice(void) { bump(1); return bump(1) + shared; }\n"
)
FLAGS = ("-m32", "-g", "-O1", "-fno-pie", "-fno-asynchronous-unwind-tables")


def compiled(folder, text, name="lib.c", flags=FLAGS):
    (folder / name).write_text(text)
    host_programs.run("gcc", *flags, "-c", name, folder=folder)
    return str(Path(name).with_suffix(".o"))


@pytest.fixture
def project_folder(bare_cpu, tmp_path):
    bare_cpu.folder = tmp_path
    return tmp_path


def load(cpu, project_folder, **extern):
    cpu.load(compiled(project_folder, LIBRARY), extern={"limit": 0x20000, "puts": lambda: 0, **extern})


def test_relocated_bytes_of_objects_are_those_of_ld(bare_cpu, project_folder):
    """Two files with data, bss, a table of pointers and calls between them: ld puts the sections where we do."""
    names = [compiled(project_folder, LIBRARY), compiled(project_folder, OTHER, "other.c")]
    program = bare_cpu.load(*names, extern={"limit": 0x20000, "puts": 0x30000})
    places = {(section.name, index): section for index, section in enumerate(program.sections)}
    script = ["SECTIONS {"]
    for index, section in enumerate(program.sections):
        same = [key for key in places if key[0] == section.name]
        file = names[same.index((section.name, index))]
        script.append(f"s{index} {section.address:#x} : {{ {file}({section.name}) }}")
    script.append("/DISCARD/ : { *(*) } } limit = 0x20000; puts = 0x30000;")
    (project_folder / "script").write_text("\n".join(script))
    host_programs.run(
        "ld", "-m", "elf_i386", "-T", "script", "-o", "linked", "-e", "bump", *names, folder=project_folder
    )
    for index, section in enumerate(program.sections):
        if section.data:
            out = project_folder / f"s{index}"
            host_programs.run("objcopy", "-O", "binary", "-j", f"s{index}", "linked", out, folder=project_folder)
            assert out.read_bytes() == section.data, section.name


def test_c_functions_can_be_called_with_arguments_and_return_results(bare_cpu, project_folder):
    said = []
    load(bare_cpu, project_folder, puts=lambda text: said.append(bare_cpu.text(text)) or -7)
    bare_cpu.write(0x20000, (100).to_bytes(4, "little"))
    assert bare_cpu.call("bump", args=[3]).eax == 8
    assert bare_cpu.call("bump", args=[-10]).eax == 0xFFFF_FFFE
    assert bare_cpu.call("greet", args=[]).eax == 0xFFFF_FFF9
    assert said == ["second"]
    assert bare_cpu.call("half", args=[5.0]).st0 == 2.5
    assert bare_cpu.call("through", args=[4]).eax == 112
    assert bare_cpu.call("triple", args=[5]).eax == 15  # static, and callable all the same
    assert int.from_bytes(bare_cpu.read(bare_cpu.address("total") + 4, 4), "little") == 2


def test_a_failure_in_c_shows_symbols_and_lines_of_the_source(bare_cpu, project_folder):
    load(bare_cpu, project_folder)
    with pytest.raises(RoutineError, match=r"#PF 0x0 at 0x0 at crash\+0x\w+ \(lib.c:16: return \*p;\)"):
        bare_cpu.call("crash", args=[0])
    assert any("crash" in line and "lib.c:16: return *p;" in line for line in describe_call(bare_cpu))


def test_without_debugging_sections_a_failure_shows_decoded_instructions(bare_cpu, project_folder):
    bare_cpu.load(compiled(project_folder, "int crash(int *p) { return *p; }", flags=(*FLAGS, "-g0")))
    with pytest.raises(RoutineError, match="crash faulted: #PF 0x0 at 0x0"):
        bare_cpu.call("crash", args=[0])
    assert any(line.endswith("mov eax, dword ptr [eax]") for line in describe_call(bare_cpu))


def test_a_store_into_a_read_only_section_faults(bare_cpu, project_folder):
    load(bare_cpu, project_folder)
    fault = bare_cpu.call("spoil", args=["x"], faults=True).fault
    assert (fault.name, fault.error_code) == ("#PF", 3)
    assert bare_cpu.text(fault.address) == "first"


def test_an_undefined_function_fails_when_it_is_called_and_not_before(bare_cpu, project_folder):
    bare_cpu.load(compiled(project_folder, "int puts(); int g(void) { return 1; } int f(void) { return puts() + 1; }"))
    assert bare_cpu.call("g", args=[]).eax == 1
    with pytest.raises(RoutineError, match="puts was called, which no object defines: give it with ;@ extern puts"):
        bare_cpu.call("f", args=[])


def test_an_undefined_variable_is_an_error_that_names_it(bare_cpu, project_folder):
    name = compiled(project_folder, "extern int limit; int f(void) { return limit; }")
    with pytest.raises(ObjectError, match=r"holds the address of limit, which no object defines: give it with"):
        bare_cpu.load(name)


def test_a_name_that_no_object_needs_is_an_error(bare_cpu, project_folder):
    name = compiled(project_folder, "int puts(); int f(void) { return puts(); }")
    with pytest.raises(ObjectError, match="no object needs putz from elsewhere; what they need: puts"):
        bare_cpu.load(name, extern={"putz": lambda: 0})


@pytest.mark.parametrize("flags", [("-O0",), ("-O2",), ("-O2", "-ffunction-sections", "-fdata-sections")], ids=str)
def test_a_plain_gcc_call_needs_no_further_flags(bare_cpu, project_folder, flags):
    """At -O0 a gcc that makes position-independent code by default computes a table's base that nothing uses."""
    text = "int popcount(unsigned x) { int n = 0; while (x) { x &= x - 1; n++; } return n; }"
    bare_cpu.load(compiled(project_folder, text, flags=("-m32", *flags)))
    assert [bare_cpu.call("popcount", args=[x]).eax for x in (0, 0xFF, 0xFFFF_FFFF)] == [0, 8, 32]


def test_position_independent_data_is_refused_by_name(bare_cpu, project_folder):
    name = compiled(project_folder, "int counter; int f(void) { return counter++; }", flags=("-m32", "-fPIC"))
    with pytest.raises(ObjectError, match=r"lib.o: \.text\+0x\w+: R_386_GOT.*compile with -fno-pie") as error:
        bare_cpu.load(name)
    assert "R_386_GOTPC" in str(error.value)


WRONG = [  # what is built, how, and what is said of it
    ("int x;", ("-m64",), "lib.o holds x64 code of 64 bits: compile with -m32"),
    ("__thread int x = 1; int f(void) { return x; }", ("-m32", "-fno-pie"), "lib.o has thread-local data"),
]


@pytest.mark.parametrize(("text", "flags", "message"), WRONG, ids=["64 bits", "thread-local"])
def test_objects_that_cannot_be_tested_are_refused_with_the_reason(bare_cpu, project_folder, text, flags, message):
    name = compiled(project_folder, text, flags=flags)
    with pytest.raises(ObjectError, match=message):
        bare_cpu.load(name)


def test_files_that_are_not_objects_are_named(bare_cpu, project_folder):
    (project_folder / "text.o").write_bytes(b"not an object")
    (project_folder / "lib.a").write_bytes(b"!<arch>\nfoo")
    (project_folder / "cut.o").write_bytes(b"\x7fELF\x01\x01\x01")
    for name, message in [
        ("text.o", "text.o is not an ELF file; nasm makes one with -f elf32"),
        ("lib.a", "lib.a is an archive: take out what is to be tested with ar x lib.a"),
        ("cut.o", "cut.o is damaged"),
        ("missing.o", "there is no .*missing.o; build it first, for instance with gcc -m32 -g -c missing.c"),
    ]:
        with pytest.raises(ObjectError, match=message):
            bare_cpu.load(name)


@pytest.mark.thorough(one_in=8)
@pytest.mark.parametrize("keep", range(0, 4000, 61))
def test_a_damaged_object_is_an_error_or_a_program(bare_cpu, project_folder, keep):
    image = bytearray((project_folder / compiled(project_folder, OTHER)).read_bytes())
    at = keep * 7 % len(image)
    (project_folder / "cut.o").write_bytes(image[: keep % len(image)])
    image[at] ^= 0xFF
    (project_folder / "bent.o").write_bytes(image)
    with pytest.raises(ObjectError):  # its section headers, which stand at the end, are not all there
        bare_cpu.load("cut.o")
    bare_cpu.reset()
    with suppress(ObjectError):  # any other exception fails the test
        bare_cpu.load("bent.o")
        bare_cpu.program.line_at(0x400000)


def test_a_name_that_two_objects_define_is_an_error(bare_cpu, project_folder):
    names = [compiled(project_folder, "int f(void) { return 1; }", f"{name}.c") for name in "ab"]
    with pytest.raises(ObjectError, match=r"f is defined by a\.o and by b\.o"):
        bare_cpu.load(*names)


def test_a_static_executable_runs_where_it_is_linked_beyond_memory(bare_cpu, project_folder):
    text = LIBRARY.replace("extern int puts(const char *);", "int limit = 1; int puts(const char *s) { return *s; }")
    (project_folder / "lib.c").write_text(text.replace("extern int limit;", ""))
    host_programs.run(
        "gcc", *FLAGS, "-static", "-no-pie", "-nostdlib", "-Wl,-e,greet", "lib.c", "-o", "prog", folder=project_folder
    )
    bare_cpu.load("prog")
    assert bare_cpu.program.address("bump") >= 0x0800_0000
    assert bare_cpu.call("bump", args=[3]).eax == 8
    assert bare_cpu.call("bump", args=[3]).eax == 11
    assert bare_cpu.text(int.from_bytes(bare_cpu.read("names", 4), "little")) == "first"
    assert bare_cpu.call("spoil", args=["x"], faults=True).fault.error_code == 3
    bare_cpu.reset()
    bare_cpu.load("f: ret\n")
    assert bare_cpu.call(0x0804_9000, faults=True).fault.name == "#PF"  # nothing of it is left


def test_nasm_objects_and_flat_binaries_are_tested(bare_cpu, project_folder):
    (project_folder / "add.asm").write_text(
        "bits 32\nglobal add_all\nextern report\nsection .data\nbase: dd 10\nsection .text\nadd_all:\n"
        " mov eax, [esp+4]\n add eax, [base]\n push eax\n call report\n add esp, 4\n ret\n"
    )
    host_programs.run("nasm", "-f", "elf32", "-g", "-F", "dwarf", "add.asm", "-o", "add.o", folder=project_folder)
    bare_cpu.load("add.o", extern={"report": lambda value: value * 2})
    assert bare_cpu.call("add_all", args=[5]).eax == 30
    assert bare_cpu.program.line_at(bare_cpu.address("add_all")).text.strip() == "mov eax, [esp+4]"
    (project_folder / "flat.asm").write_text("bits 32\norg 0x20000\n mov eax, [value]\n ret\nvalue: dd 77\n")
    host_programs.run("nasm", "-f", "bin", "flat.asm", "-o", "flat.bin", folder=project_folder)
    bare_cpu.reset()
    bare_cpu.load("flat.bin", at=0x20000)
    assert bare_cpu.call("flat").eax == bare_cpu.call(0x20000).eax == 77


def test_a_flat_binary_must_not_lie_where_the_test_has_its_tables(bare_cpu, project_folder):
    (project_folder / "big.bin").write_bytes(bytes(2000))
    with pytest.raises(ObjectError, match=r"big.bin lies at 0x7c00 to 0x83d0: .* are the test's own tables"):
        bare_cpu.load("big.bin", at=0x7C00)


def test_a_source_beside_objects_defines_and_uses_names(bare_cpu, project_folder):
    name = compiled(project_folder, "extern int limit; int puts(void); int f(void) { return puts() + limit; }")
    (project_folder / "own.asm").write_text(
        "puts: mov eax, 40\n ret\nlimit: .long 2\nboth: call f\n add eax, eax\n ret\n"
    )
    program = bare_cpu.load(name, "own.asm")
    assert program.address("both") >= SOURCE_ORIGIN
    assert program.address("puts") < STUBS
    assert bare_cpu.call("both").eax == 84
