"""Endpoints, slots, replies, requests that policy makes, and what is given back to servers.

Rule: a message is moved and checked here; what it is about, its sender knows.
"""
