"""The likelihood of rows that no statistics stand for: group effects integrated out by quadrature."""
