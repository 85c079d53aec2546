"""The entries used last are kept, within bounds of number and weight."""

from callgate.kernel.common.recent import Recent


def test_more_values_than_are_counted_push_out_the_one_that_was_used_longest_ago() -> None:
    recent: Recent[str] = Recent(2)
    assert [recent.keep(key, key.upper()) for key in "ab"] == ["A", "B"]
    assert recent.get("a") == "A"
    recent.keep("c", "C")
    assert [recent.get(key) for key in "abc"] == ["A", None, "C"]
    assert len(recent) == 2


def test_values_that_weigh_too_much_push_out_others_but_never_the_last_one() -> None:
    recent: Recent[str] = Recent(8, 10)
    recent.keep("light", "l", 4)
    recent.keep("heavy", "h", 7)
    assert recent.get("light") is None
    recent.keep("heavy", "h", 3)
    recent.keep("light", "l", 7)
    assert (recent.get("heavy"), recent.get("light")) == ("h", "l")
    recent.keep("huge", "H", 99)
    assert (recent.get("heavy"), recent.get("light"), recent.get("huge")) == (None, None, "H")
    recent.keep("light", "l", 1)
    assert (recent.get("light"), recent.get("huge"), len(recent)) == ("l", None, 1)
