"""Estimators: recipes that call the rooms below, and how fits are scored, compared and chosen."""
