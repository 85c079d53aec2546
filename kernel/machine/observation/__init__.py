"""The event stream, breakpoints, the ledger, and the reasons for which a run ends.

Rule: observing changes nothing that the guest can see.
"""
