"""The line editor: keys, cursor, history, search, completion."""
