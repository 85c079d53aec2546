"""From a line to words: quotes, wildcards, names, walks."""
