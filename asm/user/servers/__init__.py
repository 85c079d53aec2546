"""The runtime of servers, and the servers that are machine code."""
