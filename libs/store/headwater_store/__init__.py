"""Durable records and journals for Headwater."""
