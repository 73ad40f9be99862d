"""Where token buckets are kept."""
