"""Roles: rights under a name, which users are given together."""
