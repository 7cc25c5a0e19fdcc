"""Helpers that the tests of several folders share. This package imports nothing else of tests, and has no tests."""
