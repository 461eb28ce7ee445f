"""The real servers behind a local stack: PostgreSQL and NATS, from wheels, on loopback."""
