"""Endpoints, message slots, replies, policy's own requests, and what is given back to servers.

Rule: a message is carried and checked here; what it is about is known to its sender and to the server.
"""
