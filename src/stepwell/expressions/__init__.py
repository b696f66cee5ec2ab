"""Conditions over data, pure: JSONLogic."""
