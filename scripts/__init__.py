"""What make runs: installing, private servers for tests, translations."""
