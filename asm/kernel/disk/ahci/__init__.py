"""The driver of AHCI controllers."""
