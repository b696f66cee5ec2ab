"""Programs as the engine sees them: given what has happened, what follows?"""
