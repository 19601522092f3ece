"""What only AWS's event formats know: one module per trigger."""
