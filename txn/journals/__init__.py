"""Journals: the durable memory of coordinators, on SQL databases."""
