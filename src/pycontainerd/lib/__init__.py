"""What every program of the project shares; imports nobody."""
