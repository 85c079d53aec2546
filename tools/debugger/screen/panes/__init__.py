"""The panes of the screen: each is drawn from a picture, and asks for things by messages."""
