"""Tests of assembly: a bare CPU, cases written in comments, and what the pytest plugin makes of both."""
