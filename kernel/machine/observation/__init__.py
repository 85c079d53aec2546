"""The event stream, breakpoints, the ledger, and why a run has ended.

Rule: looking changes nothing that the guest can see.
"""
