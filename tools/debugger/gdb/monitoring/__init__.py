"""The commands of `monitor`, and what they show of the machine."""
