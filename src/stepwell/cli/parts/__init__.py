"""What several commands need; nothing here is a command."""
