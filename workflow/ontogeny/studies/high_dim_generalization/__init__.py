"""Advani, Saxe & Sompolinsky (2020): how generalisation error evolves in large networks trained by gradient descent."""
