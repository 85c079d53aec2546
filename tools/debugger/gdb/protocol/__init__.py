"""The Remote Serial Protocol itself: packets, the line, ids, agent expressions; nothing here knows a machine."""
