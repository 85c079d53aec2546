"""Include files that several programs share."""
