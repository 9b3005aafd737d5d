"""Picture indexes: one interface, several engines."""
