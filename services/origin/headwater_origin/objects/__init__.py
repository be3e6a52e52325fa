"""SharedObjects of a group: the authority, what clients and the application ask of it."""
