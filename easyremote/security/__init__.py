"""Who may do what: tokens, keys of people and machines, and what they sign. `cryptography` is loaded only where keys are used."""
