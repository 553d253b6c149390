"""Critical learning periods in deep linear networks (Kleinman, Achille & Soatto 2024)."""
