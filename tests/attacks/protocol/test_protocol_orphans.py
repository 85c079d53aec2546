"""Programs that outlive the ones that started them, and read the console: Ctrl-C at the prompt ends them."""

from pathlib import Path

from callgate.disk.images.builder import create_image
from shell_console import PARENT, PROMPT, READER, Console, program


def test_ctrl_c_ends_orphans_that_take_the_users_keys_from_the_shell(tmp_path: Path) -> None:
    root, image = tmp_path / "root", tmp_path / "orphans.img"
    root.mkdir()
    (root / "sink").write_bytes(program(READER))
    (root / "parent").write_bytes(program(PARENT))
    create_image(image, root)
    console = Console(image)
    console.reset()
    try:
        assert console.run("parent; parent") == ""
        tasks = console.system.kernel.state.tasks
        orphans = [process for process in tasks.processes.values() if process.name == "sink"]
        assert len(orphans) == 2
        for alive in (1, 0):
            console.press_ctrl_c()
            assert [bool(process.threads) for process in orphans] == [bool(alive), False]
        assert console.press_ctrl_c().endswith("^C\n" + PROMPT)
        assert console.run("echo good") == "good\n"
    finally:
        console.system.close()
