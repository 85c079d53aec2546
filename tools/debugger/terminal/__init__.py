"""The debugger as a conversation: for terminals without a screen, pipes, and screen readers."""
