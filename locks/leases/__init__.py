"""A lease from its grant to its end: the steps, the waiting, the keeping, and how holders hear of a loss."""
