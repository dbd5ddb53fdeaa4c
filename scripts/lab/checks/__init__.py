"""Whole programs, documents and rules held to what they promise; draftbench is the one that DRAFTBENCH names."""
