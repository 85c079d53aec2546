"""Instructions that the engine executes wrongly, caught before they execute.

Rule: code that holds no such instruction runs at full speed.
"""
