"""The debugger as a screen of panes, on Textual: another way to see a Workbench, and to give it the same commands.

Only this room imports Textual, and only its `opening` is imported from outside, so that nothing else waits for it.
"""
