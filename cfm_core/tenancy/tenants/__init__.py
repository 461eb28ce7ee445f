"""Tenants: organizations that take part in dataspaces."""
