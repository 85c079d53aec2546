"""How Unicorn is driven: the counting hook, sites, the clock, stops, hooks, raw state.

Rule: it knows instructions and the boundaries between them; `cpu` knows page tables and descriptors.
"""
