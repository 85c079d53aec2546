"""The debugger for people: a command language over a system and its history."""
