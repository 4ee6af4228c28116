"""Peers of tuning.py: the same trials, each by its own means, in a process of its own."""
