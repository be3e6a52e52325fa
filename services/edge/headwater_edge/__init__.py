"""The Headwater edge: keeps client connections."""
