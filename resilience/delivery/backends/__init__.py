"""Sources and publishers over real engines; each imports its driver, so each is imported by name."""
