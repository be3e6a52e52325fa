"""The Headwater origin: runs applications."""
