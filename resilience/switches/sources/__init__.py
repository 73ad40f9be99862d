"""Where switch documents come from."""
