"""What the triggers have of their own: the shapes of AWS's events, HTTP and its signatures."""
