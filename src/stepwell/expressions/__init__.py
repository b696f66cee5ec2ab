"""What is computed from data, pure: `{{ templates }}` and JSONLogic."""
