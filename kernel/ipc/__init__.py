"""Endpoints, message slots, replies, policy's own requests, and deferred releases.

Rule: this room carries and checks messages; only their sender and the server know their meaning.
"""
