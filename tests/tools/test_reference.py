"""The reference in docs/ is what the ABI says."""

from pathlib import Path

from callgate.tools.documents.reference import reference


def test_the_reference_is_up_to_date() -> None:
    written = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()
    assert written == reference(), "run: python -m callgate.tools.documents.reference > docs/reference.md"
