"""The debugger: history, and what shows a run to people and to other debuggers."""
