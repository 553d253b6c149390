"""Park, Okawa, Lee, Lubana & Tanaka 2024: the emergence of hidden capabilities, seen in concept space."""
