"""The Debug Adapter Protocol: an editor as front end of the debugger, forward and backward.

Its requests are carried out by the workbench of the terminal's debugger; the editor's console takes the commands of its
prompt.  PyPI has no library for the adapter's side: dap-python is a client, and debugpy's types are its own, not meant
for others.  The protocol is JSON with a length before it, so framing and checks are here.
"""
