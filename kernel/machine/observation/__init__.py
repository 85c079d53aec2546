"""The event stream, breakpoints, the ledger, and why a run has ended.

Rule: observing changes nothing that the guest can see.
"""
