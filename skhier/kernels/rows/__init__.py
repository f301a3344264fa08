"""The likelihood of rows that no statistics stand for, and the effects in it."""
