"""A run as pages for a browser: one file, or pages made as they are asked for."""
