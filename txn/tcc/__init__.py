"""TCC: the coordinator, its states, its recovery, and how it reaches branches."""
