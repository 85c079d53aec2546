"""An editor steps through a case of a test file, which is run on a machine without a kernel."""

from pathlib import Path

from callgate.tools.asmtest.cases.alone import run_alone

CASES = """
count:  mov     ecx, eax
again:  call    add_one
        loop    again
        ret
add_one:
        inc     dword [0x20000]
        ret

;@ case the sum is kept
;@   set     eax = 3
;@   call    count
;@   expect  [0x20000] = 4
"""


def test_an_editor_steps_through_a_case_both_ways_and_stops_at_its_lines(editor, tmp_path):
    path = tmp_path / "test_count.asm"
    path.write_text(CASES)
    one = editor()
    one.begin(program=f"{path}::the sum is kept")
    found = one.ask("setBreakpoints", source={"path": str(path)}, breakpoints=[{"line": 7}])["breakpoints"]
    assert [(point["verified"], point["line"]) for point in found] == [(True, 7)]
    assert one.enter()["reason"] == "entry"
    assert [thread["name"] for thread in one.ask("threads")["threads"]] == ["test: running, ring 0"]
    assert one.move("continue")["reason"] == "breakpoint"
    frames = one.ask("stackTrace", threadId=1)["stackFrames"]
    assert [frame["name"].partition("+")[0] for frame in frames][:2] == ["add_one", "again"]
    assert Path(frames[0]["source"]["path"]) == path
    (scope, *_) = one.ask("scopes", frameId=frames[0]["id"])["scopes"]
    values = one.ask("variables", variablesReference=scope["variablesReference"])["variables"]
    assert {item["name"]: item["value"] for item in values}["ecx"] == "0x3"
    assert one.move("stepBack", granularity="instruction")["reason"] == "step"
    assert "<again>" in one.where()
    assert one.move("continue")["reason"] == "breakpoint"
    refused = one.request("evaluate", expression="slots", context="repl")
    assert "no kernel" in refused["message"]
    assert not refused["body"]["error"]["showUser"], "the console shows it already"
    assert one.move("continue")["reason"] == "breakpoint"
    assert one.move("reverseContinue")["reason"] == "breakpoint"
    assert one.evaluate("ecx", "watch").startswith("0x3")


def test_a_recording_of_a_test_is_entered_where_the_test_failed_and_what_cannot_be_opened_is_said(editor, tmp_path):
    path = tmp_path / "test_count.asm"
    path.write_text(CASES)
    ran = run_alone(path, "", tmp_path)
    assert ran.failure == "[0x20000] is 3, expected = 4"
    recording = tmp_path / "it.cgr"
    one = editor()
    recording.write_text(ran.recording.replace('"end":[', '"end":[9'))
    refused = {f"{path}::the sum": "has no case 'the sum'", str(recording): "the recording cannot be repeated"}
    for program, message in refused.items():
        answer = one.request("launch", program=program)
        assert not answer["success"]
        assert message in answer["message"]
        assert answer["body"]["error"]["showUser"], "an editor says nothing to the user otherwise"
    recording.write_text(ran.recording)
    one.begin(program=str(recording))
    one.enter()
    assert "<again+0x7>  ret" in one.where()
    assert one.move("stepBack", granularity="instruction")["reason"] == "step"
    assert "loop" in one.where()
