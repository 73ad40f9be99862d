"""Runnable examples; each folder has a README."""
