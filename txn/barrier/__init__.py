"""The participant's side: the barrier table, its truth table, and functions behind it."""
