"""Users: administrators, with roles and with rights of their own."""
