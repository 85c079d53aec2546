"""A system or bare machine under a debugger, with its history: what every front end works on."""
