"""The automatic method: finds the best q of a Normal family over a flat log density by itself."""
