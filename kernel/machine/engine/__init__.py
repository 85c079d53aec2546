"""How Unicorn is driven: the counting hook, sites, the clock, stops, hooks, raw state.

Rule: what is particular to the engine is here; nothing here knows what a page table or an exception is.
"""
