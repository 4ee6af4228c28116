"""Placeholder docstring, replaced by the plugin's own."""
