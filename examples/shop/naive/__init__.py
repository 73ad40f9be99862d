"""The shop as a competent developer writes it without a library for distributed work."""
