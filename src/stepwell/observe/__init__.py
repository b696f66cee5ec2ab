"""Readers of journals: logs for people and programs."""
