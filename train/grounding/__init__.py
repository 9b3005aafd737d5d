"""Maps against boxes that people drew."""
