"""What other tools built: relocatable objects, linked and placed."""
