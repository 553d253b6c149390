"""Saxe, McClelland and Ganguli (2014): exact solutions to the dynamics of learning in deep linear networks."""
