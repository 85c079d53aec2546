"""Files of other tools: relocatable objects, linked and placed."""
