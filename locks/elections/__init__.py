"""Leader election on a lease, and what observers see of it."""
