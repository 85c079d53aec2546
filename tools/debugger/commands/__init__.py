"""A command language over a workbench, for every front end."""
