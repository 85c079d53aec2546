"""`callgate explain`: a number or a name in words.

Rule: everything here is worked out from `kernel/abi`, the images and the manual's tables; nothing is booted.
"""
