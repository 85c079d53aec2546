"""Pictures of a run: its events as typed records, and what draws them.

Rule: `recorder.py` alone looks at a system; whatever draws is given a `RunRecord` and knows no machine.
"""
