"""Tests of assembly: a bare CPU, cases written in comments, and the pytest plugin that runs them."""
