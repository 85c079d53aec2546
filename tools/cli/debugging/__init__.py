"""What `callgate debug` works on: systems with their histories, and an editor's connection."""
