"""The feed of what has happened to the Tenant Manager's entities."""
