"""What an answer has to be (a schema, choices, a class) as a grammar. Loaded when first asked for."""
