"""Where documents come from: a file, this process, a switch service."""
