"""Bridges to other libraries, each optional and each in a file of its own."""
