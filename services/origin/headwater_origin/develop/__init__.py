"""Applications from the command line: loaded, checked, and taken anew when their files change."""
